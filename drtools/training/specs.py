"""Specifications of trainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    """The training data. Each file of examples can have its own corpus, queries, title separator and weight."""

    examples: list[str]
    corpus: list[str]
    queries: list[str]
    weight: list[float] | None = None
    title_separator: list[str] | None = None
