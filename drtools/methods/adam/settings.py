"""Settings of ADAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drtools.errors import InputError, param
from drtools.formats.dark_items import KINDS, parse_ratios

WARMUP_STEPS = 100  # Tao et al.
NEGATIVES = 10  # Tao et al.
RATIOS = "0.15,0.25,0.35,0.45,0.55"  # Tao et al.
EPOCHS = 3  # [ours]


@dataclass(frozen=True)
class AdamSettings:
    """The teacher, the items and queries to distill, and the weights of the losses."""

    teacher: list[str] | None = None
    teacher_dropout: float | None = None
    accept_scores: bool = False
    baseline: Literal["hard-kd", "rand-kd"] | None = None
    without: list[str] | None = None
    negatives: int = NEGATIVES
    with_positive: bool = True
    pacing: Literal["epochs", "steps", "none"] | None = None
    supervised_weight: float = 0.01
    kl: Literal["forward", "reverse"] = "forward"
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        """Raise InputError for settings that do not go together."""
        unknown = set(self.without or ()) - {*KINDS}
        if unknown:
            raise InputError(
                where=f"{param('without')} {min(unknown)}",
                expected="reinforced or noisy",
                remedy="pass it once for each",
            )
        baseline = f"{param('baseline')} {self.baseline}"
        if self.baseline and self.without:
            raise InputError(
                "a baseline has no dark examples",
                where=f"{baseline} with {param('without')} {self.without[0]}",
                remedy="leave one of the two out",
            )
        if self.baseline and not self.with_positive:
            raise InputError(
                "a baseline distills the positive and negatives",
                where=f"{baseline} with {param('without_positive')}",
                remedy="leave one of the two out",
            )
        if self.baseline == "rand-kd" and not self.negatives:
            raise InputError(
                where=f"{param('negatives')} 0 with {baseline}",
                expected=f"the number of random documents to draw at each visit, such as {NEGATIVES}",
            )
        if self.baseline == "rand-kd" and not self.teacher:
            raise InputError(
                f"{baseline} draws documents for which the examples have no scores",
                remedy=(
                    f"use {param('teacher')}, or mine the examples with mine-negatives {param('random')}, score them "
                    f"and use {param('baseline')} hard-kd"
                ),
            )
        if self.teacher_dropout and not self.teacher:
            raise InputError(
                f"this needs {param('teacher')}",
                where=f"{param('teacher_dropout')} {self.teacher_dropout:g}",
                remedy=f"use {param('teacher')} to score during training, or leave it out",
            )
        if self.teacher and self.accept_scores:
            raise InputError(
                "scores come either from the teacher or from the examples",
                where=f"{param('teacher')} with {param('accept_scores')}",
                remedy="leave one of the two out",
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of dark examples that are distilled."""
        return () if self.baseline else tuple(kind for kind in KINDS if kind not in (self.without or ()))

    @property
    def pace(self) -> Literal["epochs", "steps", "none"]:
        """How the share of queries decreases."""
        return self.pacing or ("none" if self.baseline else "epochs")


@dataclass(frozen=True)
class DarkSettings:
    """Which dark items examples get, and whether their texts are written from a corpus."""

    negatives: int = 0
    ratios: str = RATIOS
    without_reinforced: bool = False
    seed: int = 42
    text: bool = False
    corpus: str | None = None
    title_separator: str = " "

    def __post_init__(self) -> None:
        """Raise InputError for settings that make no items, and for texts without a corpus."""
        if not parse_ratios(self.ratios) and self.without_reinforced:
            raise InputError(
                "no dark items would be made",
                where=f"{param('ratios')} '' with {param('without_reinforced')}",
                remedy="leave one of the two out",
            )
        if self.text != bool(self.corpus):
            raise InputError(
                f"{param('text')} needs the texts: use {param('corpus')} CORPUS"
                if self.text
                else f"{param('corpus')} needs {param('text')}; pass it too, or leave {param('corpus')} out"
            )
