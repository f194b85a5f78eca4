"""Settings of FGD's pre-training (ED-MLM) and distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from drtools.errors import InputError, param, params_given
from drtools.methods.ddr.settings import WINDOW_STRIDE, MaskingSettings
from drtools.models.specs import PieceSizes

LEVELS = ("document", "passage", "sentence")
EPOCHS, WARMUP_STEPS = 20, 1000  # Zhou et al.
NEGATIVE_PIECES = 8  # [ours]


@dataclass(frozen=True)
class EdMlmSettings(MaskingSettings):
    """How documents are masked for the encoder and for a decoder, and how the decoder is made.

    The defaults are those of Zhou et al., FGD. Shares and layers are those of their code. The schedule and whole words
    are those of SimLM, which FGD follows.
    """

    usual_crop_tokens: ClassVar[int] = 384
    epochs: ClassVar[float] = 3
    learning_rate: ClassVar[float] = 1e-4
    schedule: ClassVar[Literal["linear", "constant"]] = "linear"

    mask_share: float = 0.3  # [code]
    crops: Literal["random", "windows"] = "windows"
    mask_unit: Literal["token", "word"] = "word"
    decoder_mask_share: float = 0.5  # [code]
    decoder_layers: int = 2  # [code]
    decoder_start: Literal["encoder", "random"] = "encoder"
    decoder_head: Literal["shared", "own"] = "shared"

    def __post_init__(self) -> None:
        """Raise InputError for a decoder that sees more of the text than the encoder."""
        if self.decoder_mask_share < self.mask_share:
            raise InputError(
                (
                    f"the encoder's {param('mask_share')} is {self.mask_share:g}, and the decoder must not see more of "
                    "the text than the encoder"
                ),
                where=f"{param('decoder_mask_share')} {self.decoder_mask_share:g}",
                remedy=f"use {self.mask_share:g} or more",
            )

    @property
    def stride_tokens(self) -> int:
        """Crops start at multiples of this number of tokens."""
        return self.stride or WINDOW_STRIDE


@dataclass(frozen=True)
class FgdSettings:
    """The levels of a document to distill, how pieces become vectors, and the weights of the losses."""

    levels: str = "passage,sentence"
    spans: Literal["attention", "mean", "rgat"] | None = None
    contrastive_weight: float = 0.2
    hard_negatives: int = 8
    negative_pieces: int | None = None
    kl: Literal["teacher-student", "student-teacher"] = "teacher-student"
    accept_scores: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for unknown levels."""
        levels = self.chosen_levels
        if len(set(levels)) < len(levels) or not set(levels) <= set(LEVELS):
            raise InputError(
                (
                    f"expected some of {', '.join(LEVELS)}, separated by commas; to train without any, use "
                    "train-contrastive"
                ),
                where=f"{param('levels')} {self.levels}",
            )

    @property
    def chosen_levels(self) -> tuple[str, ...]:
        """The levels, split."""
        return tuple(word.strip() for word in self.levels.split(","))

    @property
    def has_pieces(self) -> bool:
        """Whether a level has pieces."""
        return self.chosen_levels != ("document",)

    def check_pieces(self, sizes: PieceSizes) -> None:
        """Raise InputError for sizes of pieces if no level has pieces."""
        said = {"spans": self.spans, "negative_pieces": self.negative_pieces, **vars(sizes)}
        given = params_given(said)
        if given and not self.has_pieces:
            raise InputError(
                f"this is for pieces, which {param('levels')} document does not use",
                where=given,
                remedy="leave it out, or add a level",
            )
