"""How long a training is: steps, warm-up, schedule and when to evaluate."""

import math
from dataclasses import dataclass

from drtools.errors import InputError, param
from drtools.training.specs import TrainingSpec

WARMUP_SHARE = 0.1  # [ours] of the planned training, if the paper's warm-up is longer


UNKNOWN_STEPS = 10**9


@dataclass
class Schedule:
    """Steps to take and the learning rate at each.

    Linear warm-up to the peak, then linear to 0 by steps or by minutes, or constant.

    An opening of `opening_steps` more goes before, at a rate of its own; minutes run from its start.
    """

    steps: int
    minutes: float | None
    warmup_steps: (
        int | None
    )  # None: a tenth of the training, however many steps that will be, or the paper's if that is less
    learning_rate: float
    evaluate_every_steps: int
    schedule_steps: int | None = None  # None: the same as steps
    constant: bool = False
    opening_steps: int = 0
    opening_rate: float = 0.0
    paper_warmup: int = UNKNOWN_STEPS  # the most steps of a warm-up that is a tenth of the training

    def rate(self, step: int, seconds: float) -> float:
        """Return the learning rate of a step (from 0), after so many seconds of training."""
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

    def is_over(self, step: int, seconds: float) -> bool:
        """Return whether training ends before this step."""
        return step >= self.steps + self.opening_steps or bool(self.minutes and seconds >= 60 * self.minutes)


def plan(flags: TrainingSpec, queries: int, default_epochs: float, paper_warmup: int) -> Schedule:
    """Settle the steps.

    What is not said is `default_epochs` over `queries`, or as many as fit if only minutes are said.
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
            "the rate falls to 0 by the minutes already",
            where=f"{param('schedule_steps')} with {param('minutes')}",
            remedy="leave one of the two out",
        )
    if flags.schedule_steps and flags.schedule == "constant":
        raise InputError(
            "the rate never falls",
            where=f"{param('schedule_steps')} with {param('schedule')} constant",
            remedy="leave one of the two out",
        )
    if flags.learning_rate <= 0:
        raise InputError(where=f"{param('learning_rate')} {flags.learning_rate}", expected="more than 0")
    steps = min(limits) if limits else UNKNOWN_STEPS
    warmup = flags.warmup_steps
    if warmup is None and not flags.minutes:  # under --minutes nobody knows how many steps there will be
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
