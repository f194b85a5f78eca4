"""How fast a training run is: what its log says besides the loss, over the steps since the log was last written."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import torch

from drtools.training.operations import matmul_rate, operations

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.models.protocol import Learner
    from drtools.training.distributed import World
    from drtools.training.gradients import Batch


class Meter:
    """Counts queries, tokens, padding and multiplications of this process.

    The queries (texts, for a model that has none) are those of all processes.
    """

    def __init__(self, model: Learner, computing: Compute, world: World) -> None:
        self.model, self.world = model, world
        dtype = torch.bfloat16 if computing.precision == "bf16" else torch.float32
        self.rate = matmul_rate(computing.device, dtype) if world.is_first else 0.0
        self.latest: dict[str, float] = {}
        self.counted = "queries"
        self.total_counts: Counter[str] = Counter()  # texts since the start, by what was odd about them
        self._forget()

    def _forget(self) -> None:
        self.started = time.monotonic()
        self.steps = self.texts = self.tokens = self.slots = 0
        self.operations = self.loss = 0.0
        self.noted: dict[str, list[float]] = {}

    def note(self, **numbers: float) -> None:
        """Remember numbers of a step that a method wants in the log; their mean goes there."""
        for name, value in numbers.items():
            self.noted.setdefault(name, []).append(value)

    def count(self, batch: Batch, slots: int, loss: float, **numbers: float) -> None:
        """Count one step; `slots` are the tokens computed, padding included."""
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
        """Return the numbers since the last reading.

        The mean loss, the last rate and norm, speeds, padding, share of the matmul rate.
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
