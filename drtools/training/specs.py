"""What is trained, on what, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingSpec:
    """How long, in what steps and how fast to train. The first of steps, epochs and minutes to be reached ends it."""

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
    batch_tokens: int | None = None
    activation_checkpointing: bool = False
    tensorboard: str | None = None


@dataclass(frozen=True)
class StudentSpec:
    """How an encoder is trained."""

    lora_rank: int = 0
    lora_alpha: float | None = None
    train: Literal["rem", "all"] = "rem"
    dropout: float | None = None
    scale: float | None = None


@dataclass(frozen=True)
class ShapeSpec:
    """What an encoder becomes before it is trained."""

    untied: bool = False
    head: Literal["keep", "projection", "none"] = "keep"


@dataclass(frozen=True)
class ExamplesSpec:
    """What is trained on. Each file of examples may have its own corpus, queries, title separator and weight."""

    examples: list[str]
    corpus: list[str]
    queries: list[str]
    weight: list[float] | None = None
    title_separator: list[str] | None = None
