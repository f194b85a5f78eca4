"""Specifications of trainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drtools.errors import InputError, param


@dataclass(frozen=True)
class TrainingSpec:
    """Length, batches and learning rate. Training ends at the first limit that is reached: steps, epochs or minutes."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch_queries: int = 32
    learning_rate: float = 2e-05
    warmup_steps: int | None = None
    optimizer: Literal["adamw", "lamb"] = "adamw"
    schedule: Literal["linear", "constant"] = "linear"
    schedule_steps: int | None = None
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 42
    evaluate_every_steps: int | None = None
    patience: int = 0
    save_every_minutes: float = 10.0
    gradient_caching: bool = False
    step_memory: float | None = None
    batch_tokens: int | None = None
    activation_checkpointing: bool = False
    tensorboard: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class StudentSpec:
    """How an encoder is trained."""

    lora_rank: int = 0
    lora_alpha: float | None = None
    train: Literal["rem", "all"] = "rem"
    dropout: float | None = None
    scale: float | None = None
    matryoshka: str | None = None


@dataclass(frozen=True)
class ShapeSpec:
    """Changes to an encoder before it is trained."""

    untied: bool = False
    head: Literal["keep", "projection", "none"] = "keep"


@dataclass(frozen=True)
class ExamplesSpec:
    """The training data. Each file of examples can have its own corpus, queries, title separator and weight.

    A batch has queries of all files (`mixed`, the default) or of one. An epoch visits files in proportion to their
    queries, times their weights (the default), or all `equal`. Documents are negatives of queries over another corpus
    only with `mix_negatives`.
    """

    examples: list[str]
    corpus: list[str]
    queries: list[str]
    weight: list[float] | None = None
    title_separator: list[str] | None = None
    batches: Literal["mixed", "one-source"] | None = None
    visits: Literal["proportional", "equal"] | None = None
    mix_negatives: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for settings that do not go together."""
        if self.visits == "equal" and self.weight:
            raise InputError(
                "both say how often a file is visited",
                where=f"{param('visits')} equal with {param('weight')}",
                remedy="leave one of the two out",
            )
        if self.mix_negatives and (self.batches == "one-source" or len(set(self.corpus)) < 2):
            raise InputError(
                "no batch has documents of several corpora",
                where=param("mix_negatives"),
                remedy="leave it out",
            )
        if self.batches == "one-source" and len(self.examples) < 2:
            raise InputError(
                f"there is only one {param('examples')}",
                where=f"{param('batches')} one-source",
                remedy="leave it out",
            )

    @property
    def keeps_apart(self) -> bool:
        """Whether batches have documents of other corpora, which are no negatives."""
        return self.batches != "one-source" and len(set(self.corpus)) > 1 and not self.mix_negatives
