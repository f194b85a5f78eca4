"""The one training loop. A method brings a batch for each step and a loss; everything else is here.

Losses see vectors, not graphs: the loop encodes a batch, hands the loss detached vectors, and sends the gradient that
comes back through the encoder.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
import orjson
import torch
from torch import Tensor

from drtools import console
from drtools.batches.by_length import batches_by_length
from drtools.batches.tokens import Tokens
from drtools.errors import Terminated, UserError
from drtools.randomness import generator
from drtools.training.checkpoint import load_tensors, save_tensors
from drtools.training.optimizers import adamw
from drtools.training.settings import UNKNOWN_STEPS

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder
    from drtools.output import Work
    from drtools.retrieval.encoding import Computing
    from drtools.training.settings import Plan, TrainingFlags

LOG, BEST = "training.jsonl", "best.safetensors"
LOG_EVERY_STEPS = 10


class Batch(Protocol):
    """What a method's batch must hold for the loop; the loss may ask it for more."""

    queries: Tokens
    documents: Tokens


Loss = Callable[[Tensor, Tensor, Batch], Tensor]  # query vectors [B, D], document vectors [C, D], batch -> []


@contextmanager
def _stop_at_a_step() -> Iterator[list[int]]:
    """Turn SIGINT and SIGTERM into a note that the loop reads between two steps."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: asked.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Run:
    """One training run: what must survive a stop, and the steps between."""

    def __init__(self, encoder: Encoder, plan: Plan, flags: TrainingFlags, work: Work, computing: Computing) -> None:
        self.encoder, self.plan, self.flags, self.work = encoder, plan, flags, work
        self.device, self.precision, self.part_tokens = computing.device, computing.precision, computing.batch_tokens
        self.optimizer = adamw(encoder, flags.weight_decay)
        self.step = 0
        self.seconds_before = 0.0
        self.best: dict | None = None  # {"step", "value"} of the best dev evaluation
        self.evaluations: list[dict] = []
        self.start_loss: float | None = None
        self.steps_without_gradient = 0
        if work.state:
            self._restore()
        self.started = time.monotonic()
        self.saved = time.monotonic()
        self.log = open(work.path / LOG, "r+b" if work.state else "wb")
        self.log.seek(work.state.get("log_bytes", 0))
        self.log.truncate()

    def seconds(self) -> float:
        """Return seconds of training, those before a stop included."""
        return self.seconds_before + time.monotonic() - self.started

    def _restore(self) -> None:
        state = self.work.state
        load_tensors(self.work.working / state["checkpoint"], self.encoder, self.optimizer)
        self.step, self.seconds_before, self.best = state["step"], state["seconds"], state["best"]
        self.evaluations, self.start_loss = state["evaluations"], state["start_loss"]

    def save(self) -> None:
        """Write a checkpoint; the one before goes when this one counts."""
        name = f"checkpoint-{self.step}.safetensors"
        save_tensors(self.work.working / name, self.encoder, self.optimizer)
        self.log.flush()
        self.work.save(step=self.step, checkpoint=name, seconds=self.seconds(), best=self.best, evaluations=self.evaluations,
                       start_loss=self.start_loss, log_bytes=self.log.tell())
        for old in self.work.working.glob("checkpoint-*.safetensors"):
            if old.name != name:
                old.unlink()
        self.saved = time.monotonic()

    def encode(self, tokens: Tokens) -> Tensor:
        """Return vectors [N, D] with their graph, encoded in parts of like length so that little is padding."""
        parts = list(batches_by_length(tokens.lengths, self.part_tokens))
        vectors = [self._encode_part(tokens, rows) for rows in parts]
        places = np.argsort(np.concatenate(parts))
        return torch.cat(vectors)[torch.from_numpy(places).to(self.device)]

    def _encode_part(self, tokens: Tokens, rows: np.ndarray) -> Tensor:
        ids, mask = (torch.from_numpy(part).to(self.device) for part in tokens.padded(rows, self.encoder.tokenizer.pad_token_id))
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.precision == "bf16"):
            return self.encoder(ids, mask, tokens.prompt_tokens)

    def take_step(self, batch: Batch, loss_of: Loss) -> dict[str, float]:
        """Take one optimizer step; return its loss, learning rate and gradient norm."""
        torch.manual_seed(int(generator(self.flags.seed, "dropout", self.step).integers(2**62)))
        vectors = [self.encode(batch.queries), self.encode(batch.documents)]
        leaves = [part.detach().requires_grad_() for part in vectors]
        loss = loss_of(*leaves, batch)
        loss.backward()
        torch.autograd.backward(vectors, [leaf.grad for leaf in leaves])
        norm = float(torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), self.flags.clip or math.inf))
        rate = self.plan.rate(self.step, self.seconds())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value = float(loss.detach())
        self._check(value, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {"loss": value, "learning_rate": rate, "gradient_norm": norm}

    def _check(self, loss: float, norm: float) -> None:
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise UserError(f"step {self.step}: the loss is {loss}, the gradient norm {norm}; lower --learning-rate, or --precision fp32")
        self.start_loss = loss if self.start_loss is None else self.start_loss
        self.steps_without_gradient = self.steps_without_gradient + 1 if norm == 0 and loss == self.start_loss else 0
        if self.steps_without_gradient >= LOG_EVERY_STEPS:
            raise UserError(f"step {self.step}: the gradient has been exactly 0 for {LOG_EVERY_STEPS} steps at a loss of {loss}; are there negatives, and different texts?")

    def evaluate(self, measure: Callable[[], dict[str, float]]) -> bool:
        """Measure on dev, keep the best weights; return whether patience has run out."""
        self.encoder.eval()
        values = measure()
        self.encoder.train()
        name, value = next(iter(values.items()))
        self.evaluations.append({"step": self.step, **values})
        is_best = self.best is None or value > self.best["value"]
        if is_best:
            self.best = {"step": self.step, "value": value, "measure": name}
            temporary = self.work.working / (BEST + ".new")
            save_tensors(temporary, self.encoder)
            temporary.replace(self.work.working / BEST)
        words = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        console.say(f"step {self.step:,}: dev {words}{'  (best so far)' if is_best else ''}")
        console.event("dev", step=self.step, **values)
        since_best = [evaluation for evaluation in self.evaluations if evaluation["step"] > self.best["step"]]
        return bool(self.flags.patience) and len(since_best) >= self.flags.patience


def fit(run: Run, batches: Callable[[int], Batch], loss_of: Loss, measure: Callable[[], dict[str, float]] | None) -> None:
    """Train until the plan is over, evaluating and saving on the way; the encoder ends with its best weights.

    `batches(step)` is called ahead in a thread, in order. With a `measure` the first of its values decides what is best.
    """
    run.encoder.train()
    total = run.plan.steps if run.plan.steps < UNKNOWN_STEPS else None
    with _stop_at_a_step() as asked, ThreadPoolExecutor(1) as ahead, console.progress("training", total, "steps", run.step) as progress:
        prepared = ahead.submit(batches, run.step)
        if measure and not run.evaluations:
            run.evaluate(measure)
            run.started = time.monotonic()  # --minutes are of training; what the start was worth is measured before
        while not run.plan.is_over(run.step, run.seconds()):
            batch = prepared.result()
            prepared = ahead.submit(batches, run.step + 1)
            numbers = run.take_step(batch, loss_of)
            progress.advance(1, **numbers)
            if run.step % LOG_EVERY_STEPS == 0:
                record = {"step": run.step, "seconds": round(run.seconds(), 2), **numbers}
                run.log.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            out_of_patience = False
            if measure and run.step % run.plan.evaluate_every_steps == 0:
                out_of_patience = run.evaluate(measure)
                run.save()
            if asked or time.monotonic() - run.saved > 60 * run.flags.save_every_minutes:
                run.save()
            if asked:
                raise KeyboardInterrupt if asked[0] == signal.SIGINT else Terminated
            if out_of_patience:
                break
        if measure and run.evaluations[-1]["step"] != run.step:
            run.evaluate(measure)
    run.log.close()
    if run.best:
        load_tensors(run.work.working / BEST, run.encoder)

