"""Measures the speed of a training, and other numbers of its log, over the steps since the last log record."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from drtools.models.loading import DTYPES
from drtools.training.operations import matmul_rate, operations

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.models.protocol import Learner
    from drtools.training.distributed import World
    from drtools.training.gradients import Batch


class Meter:
    """Counts queries, tokens, padding and multiplications of this process.

    Queries (texts, for a model without queries) are counted over all processes.
    """

    def __init__(self, model: Learner, computing: Compute, world: World) -> None:
        self.model, self.world = model, world
        self.rate = matmul_rate(computing.device, DTYPES[computing.precision]) if world.is_first else 0.0
        self.latest: dict[str, float] = {}
        self.counted = "queries"
        self.total_counts: Counter[str] = Counter()  # truncated, empty and all texts since the start
        self._forget()

    def _forget(self) -> None:
        self.started = time.monotonic()
        self.steps = self.texts = self.tokens = self.slots = 0
        self.operations = self.loss = 0.0
        self.noted: dict[str, list[float]] = {}

    def note(self, **numbers: float) -> None:
        """Record metrics of a step; their mean goes into the log."""
        for name, value in numbers.items():
            self.noted.setdefault(name, []).append(value)

    def count(self, batch: Batch, slots: int, loss: float, **numbers: float) -> None:
        """Count one step. `slots` is the number of tokens including padding."""
        self.latest = {"loss": loss, **numbers}
        self.steps += 1
        self.loss += loss
        self.counted = "queries" if "query" in batch.counts else "texts"
        self.texts += sum(batch.counts["query"] if "query" in batch.counts else next(iter(batch.counts.values())))
        self.slots += slots
        for side, tokens in batch.tokens.items():
            self.tokens += int(tokens.lengths.sum())
            self.total_counts.update(texts=len(tokens.lengths), truncated=tokens.truncated, empty=tokens.empty)
            self.operations += operations(self.model.of(side).body, tokens.lengths, tokens.backward)

    def read(self) -> dict[str, float | None]:
        """Return the numbers since the last call.

        These are the mean loss, the last learning rate and norm, speeds, padding, and the share of the matmul rate.
        """
        seconds = max(time.monotonic() - self.started, 1e-9)
        numbers: dict[str, float | None] = {
            **self.latest,
            "loss": self.loss / max(1, self.steps),
            f"{self.counted}_per_second": round(self.texts / seconds, 2),
            "tokens_per_second": round(self.tokens / seconds, 1),
            "padding_share": round(1 - self.tokens / max(1, self.slots), 4),
            "matmul_share": round(self.operations / seconds / self.rate, 4) if self.rate else None,
        }
        numbers |= {name: round(sum(values) / len(values), 6) for name, values in self.noted.items()}
        self._forget()
        return numbers
