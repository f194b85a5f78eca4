"""Settings of DDR: of a domain-adapted module (DAM) and of a relevance module (REM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from drtools.errors import InputError, param
from drtools.methods.contrastive import LossName, check_loss
from drtools.models.settings import RemSettings
from drtools.training.specs import StudentSpec

REM_EPOCHS = {"contrast": 5, "kl": 20, "margin-mse": 20}  # Zhan et al., DDR, on MS MARCO; kl: as margin-mse [ours]

MASKING_WARMUP_STEPS = 1000  # Zhan et al., DDR
WINDOW_STRIDE = 64  # tokens; Zhou et al., FGD


@dataclass(frozen=True)
class MaskingSettings:
    """How documents are cropped and masked, how many are held out, and when snapshots are written.

    The defaults are those of plain masked language modelling (Devlin et al. 2019; Zhan et al., DDR). If `crop_tokens`
    is None, it is the default, or the number of the body's positions if that is less.
    """

    usual_crop_tokens: ClassVar[int] = 128  # [ours]
    epochs: ClassVar[float] = 1
    learning_rate: ClassVar[float] = 2e-5
    schedule: ClassVar[Literal["linear", "constant"]] = "constant"

    crop_tokens: int | None = None
    mask_share: float = 0.15
    crops: Literal["random", "windows"] = "random"
    stride: int | None = None
    mask_unit: Literal["token", "word"] = "token"
    head_steps: int = 300
    head_learning_rate: float = 1e-3
    dropout: float | None = None
    dev_documents: int | None = None
    snapshot_steps: tuple[float, ...] = ()
    snapshot_minutes: tuple[float, ...] = ()

    @property
    def stride_tokens(self) -> int:
        """Crops start at multiples of this number of tokens."""
        return self.stride or (WINDOW_STRIDE if self.crops == "windows" else 1)


@dataclass(frozen=True)
class RemTrainingSettings:
    """The size of a REM, its negatives and the loss."""

    lora_rank: int = 192
    adapter_size: int = 192
    adapter_scale: float = 4.0
    dropout: float | None = None
    scale: float | None = None
    matryoshka: str | None = None
    loss: LossName = "contrast"
    hard_negatives: int = 3
    accept_scores: bool = False
    teacher_temperature: float | None = None

    def __post_init__(self) -> None:
        """Raise InputError for an empty REM, and as `check_loss` does."""
        if not self.lora_rank and not self.adapter_size:
            raise InputError(
                "nothing would be left to train", where=f"{param('lora_rank')} 0 with {param('adapter_size')} 0"
            )
        check_loss(self.loss, self.hard_negatives, self.teacher_temperature)

    @property
    def rem(self) -> RemSettings:
        """The sizes of the REM."""
        return RemSettings(self.lora_rank, self.adapter_size, self.adapter_scale)

    @property
    def student(self) -> StudentSpec:
        """How the encoder with the REM is trained."""
        return StudentSpec(dropout=self.dropout, scale=self.scale, matryoshka=self.matryoshka)
