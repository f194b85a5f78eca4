"""Settings of DDR: of a relevance module (REM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drtools.errors import InputError, param
from drtools.methods.contrastive import check_negatives
from drtools.models.settings import RemSettings
from drtools.training.specs import StudentSpec

REM_EPOCHS = {"contrast": 5, "margin-mse": 20}  # Zhan et al., DDR, on MS MARCO


@dataclass(frozen=True)
class RemTrainingSettings:
    """How large a REM is, and what it learns from by which loss."""

    lora_rank: int = 192
    adapter_size: int = 192
    adapter_scale: float = 4.0
    dropout: float | None = None
    scale: float | None = None
    loss: Literal["contrast", "margin-mse"] = "contrast"
    hard_negatives: int = 3
    accept_scores: bool = False

    def __post_init__(self) -> None:
        """Refuse a REM of nothing, and Margin-MSE without negatives."""
        if not self.lora_rank and not self.adapter_size:
            raise InputError(f"{param('lora_rank')} 0 with {param('adapter_size')} 0: nothing would be left to train")
        check_negatives(self.loss, self.hard_negatives)

    @property
    def rem(self) -> RemSettings:
        """The REM's own settings."""
        return RemSettings(self.lora_rank, self.adapter_size, self.adapter_scale)

    @property
    def student(self) -> StudentSpec:
        """How the encoder that it is put on is trained."""
        return StudentSpec(dropout=self.dropout, scale=self.scale)
