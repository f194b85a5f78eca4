"""What all trainings share, whatever the model: devices, processes, the loop, and the report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drtools import __version__, reporting
from drtools.errors import DryRunDone, InputError, param
from drtools.formats.leakage import Trained
from drtools.models.bodies import WITHOUT_MIXED_PRECISION
from drtools.models.compute import settle
from drtools.models.cpu.attention import use_sliced_attention
from drtools.models.cpu.dropout import use_own_dropout
from drtools.models.specs import ComputeSpec
from drtools.training.costs import Epochs, TrainingCosts
from drtools.training.distributed import join_processes
from drtools.training.loop import TrainingRun, fit
from drtools.training.plan import plan
from drtools.training.specs import TrainingSpec
from drtools.training.trained_on import TrainingQueries, positives_of
from drtools.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from drtools.models.dev_measure import DevMeasure
    from drtools.models.protocol import Learner
    from drtools.outputs.work import Work
    from drtools.training.gradients import Batch, Loss
    from drtools.training.loop import Refresh
    from drtools.training.memory import Separate
    from drtools.training.sampling import ExampleSource

Card = Callable[[Path, dict[str, Any]], None]  # writes a model's README.md into a folder, from its record


def no_card(folder: Path, record: dict[str, Any]) -> None:
    """Write no README.md. The command line passes a function that writes one."""


class TrainingTask:
    """A training, from its specifications to the finished folder.

    Call `adopt` with a model, `fit` with batches and a loss, and `close` with a function that writes the folder.
    """

    model: Learner
    dev: DevMeasure | None = None  # what evaluates the model while it is trained
    trained: Trained | None = None  # training queries and positives to compare dev queries with

    def __init__(self, work: Work, training: TrainingSpec, compute: ComputeSpec) -> None:
        """Join the other processes."""
        self.work, self.training = work, training
        self.computing = settle(compute, training.batch_tokens, training=True)
        self.world = join_processes(work, self.computing.device)
        self.write_card: Card = no_card

    def trained_on(self, sources: Sequence[ExampleSource], positives: bool = True) -> Trained | None:
        """Return the queries of examples, and their positives with `positives`, to compare dev queries with.

        Returns None unless this is rank 0, which compares them.
        """
        if self.world.is_first:
            self.trained = Trained(TrainingQueries(sources), partial(positives_of, sources) if positives else None)
        return self.trained

    def adopt(self, model: Learner, bodies: Sequence[PreTrainedModel]) -> None:
        """Set the model to train. `bodies` are its transformers."""
        mixed = [body.config.model_type for body in bodies if body.config.model_type in WITHOUT_MIXED_PRECISION]
        if mixed and self.computing.precision != "fp32":
            self.computing = self.computing._replace(precision="fp32")
            reporting.notice(
                1,
                f"{mixed[0]} models are trained in float32, as their code does not support mixed precision",
            )
        self.model = model.to(self.computing.device)
        self.parallel = self._make_own_randomness(bodies)

    def _make_own_randomness(self, bodies: Sequence[PreTrainedModel]) -> bool:
        """On a processor, draw dropout in each thread, so that each core can train on its own texts.

        Returns whether this is possible.
        """
        if self.training.activation_checkpointing:  # computes parts again with torch's random numbers
            for body in bodies:
                body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            return False
        if self.computing.device != "cpu":
            return False
        for body in bodies:
            use_own_dropout(body)
        sliced = [use_sliced_attention(body) for body in bodies]  # all bodies, even after one that does not support it
        return all(sliced)

    start_counts = True  # whether the start weights can be the best

    def fit(
        self,
        batches: Callable[[int], Batch],
        loss_of: Loss,
        visits: int,
        measure: DevMeasure | None,
        *,
        default_epochs: float,
        paper_warmup: int,
        refresh: Refresh | None = None,
        opening: tuple[int, float] = (0, 0.0),
        after_step: Callable[[int, float], None] | None = None,
        learner: Learner | None = None,
        separate: Separate | None = None,
    ) -> None:
        """Train. An epoch has `visits` queries or texts. With a `measure`, the weights with its highest value are kept.

        An `opening` of (steps, learning rate) comes before the planned steps. A `learner` is a module that is trained
        in place of the model; it holds the model and parts that only serve the training.
        For a loss that is a sum over queries or texts, `separate` returns the query of each text of a batch.
        """
        if measure is None and self.training.patience:
            raise InputError(
                "without dev queries nothing is measured",
                where=f"{param('patience')} {self.training.patience}",
                remedy="pass dev queries, or leave it out",
            )
        steps = plan(self.training, visits, default_epochs, paper_warmup)
        steps.opening_steps, steps.opening_rate = opening
        self.run = TrainingRun(
            learner or self.model,
            steps,
            self.training,
            self.work,
            self.computing,
            self.world,
            self.parallel,
            self.start_counts,
            separate,
        )
        costs = None
        if self.world.is_first:
            costs = TrainingCosts(self.run, batches, Epochs(visits, default_epochs), measure)
            measure = costs.limit_dev()
            costs.say_opening()
        steps.evaluate_every_steps = self.world.broadcast(steps.evaluate_every_steps)
        if costs and self.training.dry_run:
            for batch in costs.batches:
                self.run.take_step(batch, loss_of, 0.0)
                costs.note_step()
            raise DryRunDone

        def after(step: int, seconds: float) -> None:
            if costs:
                costs.note_step()
            if after_step:
                after_step(step, seconds)

        self.dev = measure
        fit(self.run, batches, loss_of, measure, refresh, after)

    def record(self) -> dict[str, object]:
        """Return what the manifest and the card record about any training.

        Steps that come before those that were asked for are counted apart, and their evaluations have steps below 0.
        """
        run, plan = self.run, self.run.plan
        head = min(run.step, plan.opening_steps)
        return {
            "steps": run.step - head,
            **({"head_steps": head} if head else {}),
            "precision": self.computing.precision,
            **({"skipped_steps": run.scaler.skipped} if run.scaler.used else {}),
            "processes": self.world.size,
            "best": run.best and {**run.best, "step": plan.count(run.best["step"])},
            "evaluations": [{**each, "step": plan.count(int(each["step"] or 0))} for each in run.evaluations],
            "training_seconds": round(run.seconds(), 1),
            **({"leakage": self.trained.found} if self.trained and self.trained.found else {}),
        }

    def card_record(self) -> dict[str, object]:
        """Return what only the card records: the tool, its version and the whole request."""
        return {"tool": self.work.request["tool"], "version": __version__, "request": self.work.request}

    def close(self, write: Callable[[], None]) -> None:
        """Let rank 0 write the folder and its manifest, leave the other processes, and report the result."""
        read = self.run.meter.total_counts
        for name, words in (("truncated", "longer than their limit and were cut"), ("empty", "empty")):
            reporting.notice(
                read[name], f"{read[name]:,} of the {read['texts']:,} texts trained on since the start were {words}"
            )
        skipped = self.run.scaler.skipped
        reporting.notice(
            skipped, f"{counted(skipped, 'step')} of {self.run.step:,} overflowed float16 and were skipped"
        )
        if self.world.is_first:
            write()
        self.world.wait()
        self.world.leave()
        self.work.done = True
        best, head = self.run.best, min(self.run.step, self.run.plan.opening_steps)
        over = f" ({self.dev.over})" if self.dev and self.dev.over else ""
        reporting.say(
            f"{self.work.target}: trained for {counted(self.run.step - head, 'step')}"
            + (f", after {counted(head, 'step')} that fitted a new masked head" if head else "")
            + (
                f"; best dev {best['measure']} {best['value']:.4f} at {self.run.plan.in_words(best['step'])}{over}"
                if best
                else ""
            )
        )
        if best and best["step"] == 0:
            reporting.say("no evaluation on dev was better than the start, so these are the start weights")
