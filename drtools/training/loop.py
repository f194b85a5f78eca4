"""The training loop. A method provides a batch for each step and a loss.

The loop takes the steps, evaluates, keeps the best weights, stops early, writes checkpoints and the log, and continues
stopped work.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from drtools import reporting, signals
from drtools.errors import InputError, param
from drtools.outputs.checksums import Span
from drtools.outputs.contents import WORKING
from drtools.outputs.disk import flush_to_disk
from drtools.training.checkpoints import load_tensors, save_tensors
from drtools.training.gradients import Batch, Gradients, Loss
from drtools.training.log import Log
from drtools.training.memory import budget_of
from drtools.training.meter import Meter
from drtools.training.optimizers import OPTIMIZERS
from drtools.training.plan import UNKNOWN_STEPS
from drtools.training.scaling import Scaler
from drtools.training.specs import TrainingSpec
from drtools.training.state import Best, TrainingState

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.models.dev_measure import DevMeasure
    from drtools.models.protocol import Learner
    from drtools.outputs.work import Work
    from drtools.training.distributed import World
    from drtools.training.memory import Separate
    from drtools.training.plan import Schedule

LOG, BEST = "training.jsonl", "best.safetensors"
LOG_EVERY_STEPS = 10


class Refresh(Protocol):
    """Something that is made from the model every few steps, and optionally at the start (ANCE's negatives)."""

    every_steps: int
    at_start: bool

    def make(self, path: Path, step: int, check_stop: Callable[[], None]) -> None:
        """Make it and write it. Called in every process."""

    def load(self, path: Path) -> None:
        """Load it and train with it from now on."""


class TrainingRun:
    """A training run: its state, which survives a stop, and its steps."""

    def __init__(
        self,
        model: Learner,
        plan: Schedule,
        flags: TrainingSpec,
        work: Work,
        computing: Compute,
        world: World,
        parallel: bool = False,
        start_counts: bool = True,
        separate: Separate | None = None,
    ) -> None:
        self.model, self.plan, self.flags, self.work, self.world = model, plan, flags, work, world
        budget = budget_of(model, computing, flags.step_memory)
        self.gradients = Gradients(model, computing, world, flags.gradient_caching, parallel, separate, budget)
        self.optimizer = OPTIMIZERS[flags.optimizer](model, flags.weight_decay)
        quick = {
            parameter for group in self.optimizer.param_groups if group["rate"] != 1 for parameter in group["params"]
        }
        self.scaler = Scaler(computing)
        self.clipped = [parameter for parameter in self.gradients.parameters if parameter not in quick]
        self.start_counts = start_counts  # whether the start weights can be the best
        self.step, self.steps_without_gradient, self.seconds_before = 0, 0, 0.0
        self.best: Best | None = None
        self.evaluations: list[dict[str, float | None]] = []
        self.start_loss: float | None = None
        self.refreshed: str | None = None
        state = TrainingState.of(work)
        if state:
            self._restore(state)
        self.log: Log | None = None
        if world.is_first:
            first_step = plan.count(self.step + 1 if state else 0)
            self.log = Log(work.path / LOG, state.log_bytes if state else 0, flags.tensorboard, first_step)
        self.meter = Meter(model, computing, world)
        self.meter.total_counts.update(state.read_at_all if state else {})
        self.started = self.saved = time.monotonic()  # set after the meter, which needs seconds to measure the device

    def seconds(self) -> float:
        """Return the seconds of training, including those before a stop."""
        return self.seconds_before + time.monotonic() - self.started

    def _restore(self, state: TrainingState) -> None:
        load_tensors(self.work.working / state.checkpoint, self.model, self.optimizer)
        self.step, self.seconds_before, self.best = state.step, state.seconds, state.best
        self.scaler.restore(state.scaling)
        self.evaluations, self.start_loss, self.refreshed = state.evaluations, state.start_loss, state.refreshed

    def save(self) -> None:
        """Write a checkpoint (in rank 0), then remove the one before."""
        self.saved = time.monotonic()
        if not self.world.is_first:
            return
        assert self.log is not None, "rank 0 has the log"
        name = f"checkpoint-{self.step}.safetensors"
        save_tensors(self.work.working / name, self.model, self.optimizer)
        flush_to_disk(self.work.working / name)
        flush_to_disk(self.work.working)
        state = TrainingState(
            step=self.step,
            checkpoint=name,
            seconds=self.seconds(),
            best=self.best,
            evaluations=self.evaluations,
            start_loss=self.start_loss,
            refreshed=self.refreshed,
            log_bytes=self.log.position(),
            read_at_all=dict(self.meter.total_counts),
            scaling=self.scaler.state(),
        )
        state.save(self.work, self._spans(state))
        for old in (*self.work.working.glob("checkpoint-*"), *self.work.working.glob("refreshed-*")):
            if old.name not in (name, self.refreshed):
                old.unlink()

    def _spans(self, state: TrainingState) -> dict[str, Span]:
        """Return the bytes that a later process reads. Checkpoints have their own checksums."""
        spans = {LOG: Span(0, state.log_bytes)}
        return spans | {f"{WORKING}/{state.refreshed}": Span(0, None)} if state.refreshed else spans

    def take_step(self, batch: Batch, loss_of: Loss, seconds: float) -> None:
        """Take one optimizer step, at the learning rate for this step and this number of seconds."""
        self.gradients.scale = self.scaler.factor
        loss, metrics = self.gradients.of(batch, loss_of, self.flags.seed, "dropout", self.step)
        self.scaler.unscale(self.optimizer)
        norm = self._clip()
        rate = self.plan.rate(self.step, seconds)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self._check(loss, norm)
        self.scaler.step(self.optimizer, norm)
        self.step += 1
        self.meter.note(**metrics)
        numbers = {"learning_rate": rate, "gradient_norm": norm, **self.scaler.numbers()}
        self.meter.count(batch, self.gradients.slots, loss=loss, **numbers)

    def _clip(self) -> float:
        """Scale gradients, except that of a FastScalar, down to the maximum norm. Returns their norm before."""
        found = [parameter.grad for parameter in self.clipped if parameter.grad is not None]
        norm = float(torch.stack(torch._foreach_norm(found)).norm()) if found else 0.0
        if self.flags.clip and norm > self.flags.clip:  # otherwise a pass over all gradients would change nothing
            torch._foreach_mul_(found, self.flags.clip / (norm + 1e-6))
        return norm

    def _check(self, loss: float, norm: float) -> None:
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.used):
            raise InputError(
                f"step {self.step}: the loss is {loss}, the gradient norm {norm}",
                remedy=f"lower {param('learning_rate')}, or {param('precision')} fp32",
            )
        self.start_loss = loss if self.start_loss is None else self.start_loss
        self.steps_without_gradient = (
            self.steps_without_gradient + 1 if norm == 0 and loss in (0, self.start_loss) else 0
        )
        if self.steps_without_gradient >= LOG_EVERY_STEPS:
            raise InputError(
                f"step {self.step}: the gradient has been exactly 0 for {LOG_EVERY_STEPS} steps at a loss of {loss}; "
                "are there negatives, and are the texts different?"
            )

    def evaluate(self, measure: DevMeasure) -> bool:
        """Measure on dev and keep the best weights. Returns whether to stop early."""
        begun = time.monotonic()
        self.model.eval()
        values = self.world.broadcast(measure() if self.world.is_first else None)
        assert values is not None, "rank 0 has measured"
        self.model.train()
        name, value = next(iter(values.items()))
        self.evaluations.append({"step": self.step, **values})
        is_best = (self.step > 0 or self.start_counts) and (self.best is None or value > self.best["value"])
        if is_best:
            self.best = {"step": self.step, "value": value, "measure": name}
            if self.world.is_first:
                temporary = self.work.working / (BEST + ".new")
                save_tensors(temporary, self.model)
                flush_to_disk(temporary)
                temporary.replace(self.work.working / BEST)
        words = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        over = f"  ({measure.over})" if measure.over and len(self.evaluations) == 1 else ""
        place, step = self.plan.in_words(self.step), self.plan.count(self.step)
        reporting.say(f"{place}: dev {words}{'  (best so far)' if is_best else ''}{over}")
        reporting.event("dev", step=step, **values)
        if self.log:
            self.log.write({"step": step, **{f"dev {name}": value for name, value in values.items()}})
        self.meter.started += time.monotonic() - begun
        since_best = [each for each in self.evaluations if self.best and (each["step"] or 0) > self.best["step"]]
        return bool(self.flags.patience) and len(since_best) >= self.flags.patience

    def renew(self, refresh: Refresh, asked: list[int]) -> None:
        """Make the refreshed part again from the current model, and save it for continuing.

        A signal in `asked` of any process stops it.
        """
        self.save()  # encoding a corpus takes long; if it is stopped, training continues from here

        def check_stop() -> None:
            if asked and self.world.size == 1:
                raise signals.error_of(asked[0])

        self.refreshed = f"refreshed-{self.step}"
        self.model.eval()
        refresh.make(self.work.working / self.refreshed, self.step, check_stop)
        self.model.train()
        self.world.wait()
        refresh.load(self.work.working / self.refreshed)
        if self.world.is_first:
            flush_to_disk(self.work.working / self.refreshed)
        self.save()

    def finish(self) -> None:
        """Close the log and restore the best weights."""
        if self.log:
            self.log.close()
        if self.best and self.world.is_first:
            load_tensors(self.work.working / BEST, self.model)


class _Prefetch:
    """Prepares the batch of the next step in a thread, unless a refresh comes first."""

    def __init__(self, batches: Callable[[int], Batch], refresh: Refresh | None) -> None:
        self.batches, self.refresh = batches, refresh
        self.thread = ThreadPoolExecutor(1)
        self.prepared: tuple[int, Future[Batch]] | None = None

    def renews_at(self, step: int) -> bool:
        """Return whether a refresh is due before a step."""
        return self.refresh is not None and (step > 0 or self.refresh.at_start) and step % self.refresh.every_steps == 0

    def prepare(self, step: int) -> Future[Batch]:
        """Start preparing the batch of a step."""
        future = self.thread.submit(self.batches, step)
        self.prepared = (step, future)
        return future

    def take(self, step: int) -> Batch:
        """Return the batch of a step and start preparing the next."""
        future = self.prepared[1] if self.prepared and self.prepared[0] == step else self.prepare(step)
        batch = future.result()
        if not self.renews_at(step + 1):
            self.prepare(step + 1)
        return batch


class _Parts(NamedTuple):
    """What a training consists of besides its run."""

    ahead: _Prefetch
    loss_of: Loss
    measure: DevMeasure | None
    refresh: Refresh | None
    after_step: Callable[[int, float], None] | None
    asked: list[int]


def fit(
    run: TrainingRun,
    batches: Callable[[int], Batch],
    loss_of: Loss,
    measure: DevMeasure | None = None,
    refresh: Refresh | None = None,
    after_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train until the plan is over, with evaluations and checkpoints. The model ends with its best weights.

    `batches(step)` is called ahead of time in a thread, in order. The first value of `measure` decides which weights
    are best; higher is better. `after_step(step, seconds)` is called after each step.
    """
    run.model.train()
    ahead = _Prefetch(batches, refresh)
    if refresh and run.refreshed:
        refresh.load(run.work.working / run.refreshed)
    with signals.noted(_say_stopping) as asked, ahead.thread:
        if measure and not run.evaluations:
            run.evaluate(measure)
            run.started = time.monotonic()  # --minutes are of training; the start is evaluated before
        parts = _Parts(ahead, loss_of, measure, refresh, after_step, asked)
        goes_on = True
        for phase in run.plan.phases():
            if goes_on and run.step < phase.first + (phase.steps or UNKNOWN_STEPS):
                with reporting.progress(phase.name, phase.steps, "steps", run.step - phase.first) as progress:
                    if run.plan.minutes:
                        progress.deadline = time.monotonic() + 60 * run.plan.minutes - run.seconds()
                    goes_on = _take_steps(run, parts, progress, phase.first + (phase.steps or UNKNOWN_STEPS))
        if measure and run.evaluations[-1]["step"] != run.step:
            run.evaluate(measure)
    run.finish()


def _take_steps(run: TrainingRun, parts: _Parts, progress: reporting.Progress, last: int) -> bool:
    """Take the steps before step `last`; return whether the training goes on after them."""
    ahead, measure, refresh, asked = parts.ahead, parts.measure, parts.refresh, parts.asked
    _, seconds = run.world.agree(bool(asked), run.seconds())
    while not run.plan.is_over(run.step, seconds):
        if run.step >= last:
            return True
        if refresh and ahead.renews_at(run.step) and run.refreshed != f"refreshed-{run.step}":
            run.renew(refresh, asked)
        run.take_step(ahead.take(run.step), parts.loss_of, seconds)
        progress.advance(1, **run.meter.latest)
        if parts.after_step:
            parts.after_step(run.step, run.seconds())
        counted = run.plan.count(run.step)
        if counted % LOG_EVERY_STEPS == 0 and run.log:
            run.log.write({"step": counted, "seconds": round(run.seconds(), 2), **run.meter.read()})
        out_of_patience = False
        if measure and counted % run.plan.evaluate_every_steps == 0:
            out_of_patience = run.evaluate(measure)
            run.save()
        stop, seconds = run.world.agree(bool(asked), run.seconds())
        if stop or time.monotonic() - run.saved > 60 * run.flags.save_every_minutes:
            run.save()
        if stop:
            raise signals.error_of(asked[0] if asked else signal.SIGTERM)  # another process may have got the signal
        if out_of_patience:
            return False
    return False


def _say_stopping(number: int) -> None:
    """Answer a signal at once, although the step is finished first."""
    again = "; press Ctrl-C again to stop now" if number == signal.SIGINT else ""
    with suppress(RuntimeError):  # the signal came while a line was written
        reporting.say(f"finishing this step{again}")
