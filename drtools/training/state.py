"""The saved state of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from drtools.outputs.states import State


class Best(TypedDict):
    """The best dev evaluation, by the first of its measures."""

    step: int
    value: float
    measure: str


class Scaling(TypedDict):
    """The state of a scaler: the factor, the steps since it last changed, and all steps skipped so far."""

    factor: float
    steady_steps: int
    skipped: int


@dataclass(kw_only=True)
class TrainingState(State):
    """The state from which a training continues. `checkpoint` and `refreshed` are names in the folder `working`."""

    step: int
    checkpoint: str
    seconds: float
    best: Best | None
    evaluations: list[dict[str, float | None]]  # the step and the value of each measure, null if not finite
    start_loss: float | None
    refreshed: str | None
    log_bytes: int = 0
    read_at_all: dict[str, int] = field(default_factory=dict)
    scaling: Scaling | None = None  # in float16
