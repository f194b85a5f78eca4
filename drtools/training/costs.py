"""What a training costs, said before its hours are spent: steps, texts, memory, disk and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools import reporting
from drtools.costs import Costs, resident_bytes, say_costs
from drtools.errors import param
from drtools.training.operations import operations
from drtools.training.plan import UNKNOWN_STEPS
from drtools.units import bytes_as_words, counted, seconds_as_words

if TYPE_CHECKING:
    from drtools.models.dev_measure import DevMeasure
    from drtools.models.tokens import Tokenized
    from drtools.training.gradients import Batch
    from drtools.training.loop import TrainingRun
    from drtools.training.plan import Schedule
    from drtools.training.specs import TrainingSpec

SAMPLED_BATCHES = 3
NUMBER = 4  # bytes
DEV_SHARE = 0.25  # operations of evaluations beside those of the steps: a fifth of both
SHORT_EVALUATION = 2e12  # operations: seconds of a processor, which are never saved


class Epochs(NamedTuple):
    """An epoch's queries or texts, and how many epochs there are by default."""

    visits: int
    default: float


class TrainingCosts:
    """Estimates what is left of a training from some of its batches."""

    def __init__(
        self, run: TrainingRun, batches: Callable[[int], Batch], epochs: Epochs, dev: DevMeasure | None
    ) -> None:
        """Make the first batches that train all that learns; a new head alone learns before them."""
        self.run, self.plan, self.epochs, self.dev = run, run.plan, epochs, dev
        self.begin = run.step
        first = run.plan.opening_steps  # also when a training continues: what it decides must not change
        self.batches = [batches(first + at) for at in range(SAMPLED_BATCHES)]
        self.of_head = batches(0) if run.step < run.plan.opening_steps else None
        self.operations = float(np.mean([self._operations(each.tokens) for each in self.batches]))
        self.seconds: list[tuple[float, float]] = []  # of steps taken, with their operations
        self.latest = time.monotonic()

    def _operations(self, tokens: Mapping[str, Tokenized], learning: bool = True) -> float:
        of = self.run.model.of
        return sum(operations(of(side).body, each.lengths, learning and each.backward) for side, each in tokens.items())

    def limit_dev(self) -> DevMeasure | None:
        """Evaluate less if the default takes more than a fifth of the training; return the measure or a smaller one.

        Operations are compared and not seconds, so that the same command does the same.
        """
        plan, dev = self.plan, self.dev
        one = self._operations(dev.tokens, learning=False) if dev else 0.0
        if dev is None or self.run.flags.evaluate_every_steps or one <= SHORT_EVALUATION:
            return dev
        every, share = plan.evaluate_every_steps, 1.0
        if plan.steps >= UNKNOWN_STEPS:
            every = max(every, math.ceil(one / (DEV_SHARE * self.operations)))
        else:
            allowed = DEV_SHARE * plan.steps * self.operations
            if (1 + math.ceil(plan.steps / every)) * one > allowed:
                count = max(2, int(allowed / one))  # at the start and at the end at least
                every = math.ceil(plan.steps / (count - 1))
                share = min(1.0, max(allowed / count, SHORT_EVALUATION) / one)
        if dev.smaller and share < 1:
            self.dev = dev.smaller(share)
        if every != plan.evaluate_every_steps or self.dev is not dev:
            plan.evaluate_every_steps = every
            reporting.say(
                f"dev is evaluated every {counted(every, 'step')} {self.dev.over if self.dev else ''}; more would take "
                f"over a fifth of the training (set {param('evaluate_every_steps')} to do so)"
            )
        return self.dev

    def say_opening(self) -> None:
        """Report steps, texts, memory and disk."""
        parameters = list(self.run.model.parameters())
        model = NUMBER * sum(each.numel() for each in parameters)
        learning = NUMBER * sum(each.numel() for each in parameters if each.requires_grad)
        checkpoints = 2 * (model + 2 * learning) + (model if self.dev else 0)  # the next one beside the last
        memory = self._memory(learning) if self.run.gradients.computing.device == "cpu" else None
        say_costs(
            Costs(
                steps_in_words(self.run.plan, self.run.flags, self.epochs, self._unit()),
                self._sample(),
                memory,
                model,
                model + checkpoints,
            )
        )

    def _unit(self) -> str:
        return "texts" if "text" in self.batches[0].tokens else "queries"

    def _sample(self) -> str:
        tokens = [each for batch in self.batches for each in batch.tokens.values()]
        texts = sum(len(each.lengths) for each in tokens)
        total = sum(int(each.lengths.sum()) for each in tokens)
        cut = sum(each.truncated for each in tokens)
        return (
            f"from {SAMPLED_BATCHES} batches: {texts / SAMPLED_BATCHES:,.0f} texts of {total / texts:,.0f} tokens a "
            f"step, {cut / texts:.0%} of them cut{self._division()}"
        )

    def _division(self) -> str:
        """Say how a batch is divided, if it is."""
        gradients = self.run.gradients
        groups, load = max((gradients.division(batch) for batch in self.batches), key=lambda found: found[1])
        if len(groups) == 1 and groups[0].keep:
            return ""
        how = f"in {counted(len(groups), 'group')}" if len(groups) > 1 else "with gradient caching"
        return f"; its activations, {bytes_as_words(load)}, are computed {how} (see {param('step_memory')})"

    def _memory(self, learning: float) -> float:
        """Estimate the peak: what is in use now, gradients and the optimizer's states, and activations."""
        gradients = self.run.gradients
        copies = 3 + (gradients.cores if gradients.cores > 1 else 0)  # each core computes gradients of its own
        activations = max(gradients.activations(batch) for batch in self.batches)
        return resident_bytes() + copies * learning + activations

    def note_step(self) -> None:
        """Note that a step was taken; after the first ones, report the time that the training takes."""
        now = time.monotonic()
        at = len(self.seconds)
        if at < SAMPLED_BATCHES:
            since = max(self.latest, self.run.started)  # after an evaluation of the start
            self.seconds.append((now - since, self._operations(self.batches[at].tokens)))
            if len(self.seconds) == SAMPLED_BATCHES:
                self.say_time()
        self.latest = now

    def say_time(self) -> None:
        """Report how long the training takes, from the steps so far; what made the first one slower counts once."""
        taken = self.seconds[1:]
        second_of_operation = sum(seconds for seconds, _ in taken) / sum(count for _, count in taken)
        step = second_of_operation * self.operations
        evaluation = second_of_operation * self._operations(self.dev.tokens, learning=False) if self.dev else 0.0
        plan = self.plan
        left = plan.steps + plan.opening_steps - max(self.begin, plan.opening_steps)
        head = 0.0
        if self.of_head is not None:
            head_step = second_of_operation * self._operations(self.of_head.tokens)
            head = max(0, plan.opening_steps - self.begin) * head_step
        first, operations_of_first = self.seconds[0]
        training = step * left + head + max(0.0, first - second_of_operation * operations_of_first)
        limited = plan.minutes is not None and (plan.steps >= UNKNOWN_STEPS or training > 60 * plan.minutes)
        if limited and plan.minutes is not None:
            training = 60 * plan.minutes - self.run.seconds()
            left = int(max(0.0, training - head) / step)
        evaluations = 1 + -(-left // plan.evaluate_every_steps) if self.dev else 0
        words = [f"{counted(left, 'step')} of about {short(step)}"]
        if head:
            words.insert(0, f"{seconds_as_words(head)} for the new head")
        if evaluations:
            words.append(f"{counted(evaluations, 'evaluation')} on dev of about {short(evaluation)}")
        total = training if limited else training + evaluations * evaluation
        say_costs(Costs(seconds=total, time=", ".join(words)))


def short(seconds: float) -> str:
    """Write the seconds of a step: `0.35 s`, `4.8 s`, `2 min 5 s`."""
    return f"{seconds:.2g} s" if seconds < 10 else seconds_as_words(seconds)


def steps_in_words(plan: Schedule, flags: TrainingSpec, epochs: Epochs, unit: str) -> str:
    """Say how long a training is: steps, epochs and minutes, and what of it is a default."""
    limit = "" if plan.minutes is None else f"{plan.minutes:g} minutes"
    size = f"{flags.batch_queries:,} {unit}"
    if plan.steps >= UNKNOWN_STEPS:
        words = f"training for {limit} in steps of {size}; an epoch has {epochs.visits:,}"
    else:
        passes = plan.steps * flags.batch_queries / max(1, epochs.visits)
        given = flags.steps or flags.epochs is not None or flags.minutes is not None
        default = "" if given else f" (the default, {epochs.default:g})"
        words = (
            f"training: {counted(plan.steps, 'step')} of {size}, {passes:.3g} epochs of {epochs.visits:,}{default}"
            + (f", at most {limit}" if limit else "")
        )
    if plan.opening_steps:
        words = f"first {counted(plan.opening_steps, 'step')} that fit a new masked head, then {words}"
    return words
