"""The plan of a training: steps, warm-up, schedule and evaluations."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from drtools.errors import InputError, param
from drtools.training.specs import TrainingSpec

WARMUP_SHARE = 0.1  # [ours] share of the planned training, if the paper's warm-up is longer


UNKNOWN_STEPS = 10**9


class Phase(NamedTuple):
    """A part of a training: its name in the progress, its first step and its number of steps, None if unknown."""

    name: str
    first: int
    steps: int | None


@dataclass
class Schedule:
    """The number of steps and the learning rate of each step.

    The rate rises linearly to its peak during the warm-up. Then it falls linearly to 0, by steps or by minutes, or is
    constant. `opening_steps` more steps come first, at their own rate; minutes count from the first of them.
    """

    steps: int
    minutes: float | None
    warmup_steps: int | None  # None: a tenth of the training, or the paper's warm-up if it is shorter
    learning_rate: float
    evaluate_every_steps: int
    schedule_steps: int | None = None  # None: the same as steps
    constant: bool = False
    opening_steps: int = 0
    opening_rate: float = 0.0
    paper_warmup: int = UNKNOWN_STEPS  # the limit of a warm-up that is a tenth of the training

    def rate(self, step: int, seconds: float) -> float:
        """Return the learning rate of a step (from 0), given the seconds of training."""
        if step < self.opening_steps:
            return self.opening_rate
        step -= self.opening_steps
        done = step / (self.schedule_steps or self.steps)
        if self.minutes:
            done = max(done, seconds / (60 * self.minutes))
        if self.warmup_steps is None:
            warmed = max(done / WARMUP_SHARE, (step + 1) / max(1, self.paper_warmup))
            share = WARMUP_SHARE if self.paper_warmup else 0.0
        else:
            warmed, share = (
                (step + 1) / max(1, self.warmup_steps),
                self.warmup_steps / (self.schedule_steps or self.steps),
            )
        left = 1.0 if self.constant else max(0.0, 1.0 - done) / max(1e-9, 1.0 - share)
        return self.learning_rate * min(1.0, warmed, left)

    def phases(self) -> list[Phase]:
        """Return the parts of the training that are reported apart."""
        steps = self.steps if self.steps < UNKNOWN_STEPS else None
        head = [Phase("fitting the new masked head", 0, self.opening_steps)] if self.opening_steps else []
        return [*head, Phase("training", self.opening_steps, steps)]

    def count(self, step: int) -> int:
        """Return the number of a step among those that were asked for; steps up to 0 are those that come first."""
        return step - self.opening_steps

    def in_words(self, step: int) -> str:
        """Name a step as `count` does, and one that comes first by its own number."""
        return f"head step {step:,}" if step < self.opening_steps else f"step {self.count(step):,}"

    def is_over(self, step: int, seconds: float) -> bool:
        """Return whether training ends before this step."""
        return step >= self.steps + self.opening_steps or bool(self.minutes and seconds >= 60 * self.minutes)


def plan(flags: TrainingSpec, queries: int, default_epochs: float, paper_warmup: int) -> Schedule:
    """Compute the schedule.

    Without steps, epochs or minutes, it has `default_epochs` over `queries`. With minutes only, they are the limit.
    """
    limits = [flags.steps] if flags.steps else []
    epochs = (
        flags.epochs
        if flags.epochs is not None
        else (default_epochs if not flags.steps and not flags.minutes else None)
    )
    if epochs is not None:
        if epochs <= 0:
            raise InputError(where=f"{param('epochs')} {epochs}", expected="more than 0")
        limits.append(max(1, math.ceil(epochs * queries / flags.batch_queries)))
    if flags.minutes is not None and flags.minutes <= 0:
        raise InputError(where=f"{param('minutes')} {flags.minutes}", expected="more than 0")
    if flags.schedule_steps and flags.minutes:
        raise InputError(
            "the learning rate already falls to 0 with the minutes",
            where=f"{param('schedule_steps')} with {param('minutes')}",
            remedy="leave one of the two out",
        )
    if flags.schedule_steps and flags.schedule == "constant":
        raise InputError(
            "a constant rate does not fall",
            where=f"{param('schedule_steps')} with {param('schedule')} constant",
            remedy="leave one of the two out",
        )
    if flags.learning_rate <= 0:
        raise InputError(where=f"{param('learning_rate')} {flags.learning_rate}", expected="more than 0")
    steps = min(limits) if limits else UNKNOWN_STEPS
    warmup = flags.warmup_steps
    if warmup is None and not flags.minutes:  # with minutes, the number of steps is unknown
        warmup = min(paper_warmup, round(WARMUP_SHARE * steps))
    evaluate_every = flags.evaluate_every_steps or (max(1, math.ceil(steps / 5)) if limits else 200)
    return Schedule(
        steps,
        flags.minutes,
        warmup,
        flags.learning_rate,
        evaluate_every,
        flags.schedule_steps,
        flags.schedule == "constant",
        paper_warmup=paper_warmup,
    )
