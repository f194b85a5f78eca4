"""ADAM's self-pacing.

The share of a batch's queries that are distilled decreases from 1 at the start to 1/2 at the end.
"""

from __future__ import annotations

from collections.abc import Callable

from drtools.errors import InputError, param
from drtools.training.plan import UNKNOWN_STEPS, plan
from drtools.training.specs import TrainingSpec


def share_of_step(kind: str, flags: TrainingSpec, queries: int, default_epochs: float) -> Callable[[int], float]:
    """Return the share of queries at each step (from 0).

    With `epochs`, it is 1 - t / 2T in epoch t (from 0) of T (Tao et al., ADAM). T is the plan's `epochs`, or follows
    from its steps. With `steps`, it decreases at each step, for trainings of one or two epochs [ours]. With `none`, it
    is 1. Raises InputError if only `minutes` are given.
    """
    if kind == "none":
        return lambda step: 1.0
    steps = plan(flags, queries, default_epochs, 0).steps
    if steps >= UNKNOWN_STEPS:
        raise InputError(
            f"{param('pacing')} needs the number of epochs, and only {param('minutes')} {flags.minutes:g} was given",
            remedy=f"use {param('epochs')} too (the first limit ends the training), or {param('pacing')} none",
        )
    if kind == "steps":
        return lambda step: 1.0 - step / (2 * steps)
    epochs = flags.epochs or (default_epochs if not flags.steps else max(1.0, steps * flags.batch_queries / queries))
    return lambda step: 1.0 - (step * flags.batch_queries // queries) / (2 * max(1.0, epochs))
