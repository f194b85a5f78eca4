"""Compute the gradients of one batch: encode chunks, compute the loss of all vectors, backpropagate through each chunk.

A loss gets vectors without their graphs. Each process encodes its share in chunks of similar length. All vectors are
gathered, every process computes the loss of the global batch, and each process backpropagates the gradient of its own
vectors through its own chunks. With caching, the graph of a chunk is discarded and computed again, so that memory does
not grow with the batch. On a processor, each core computes its own chunks in one thread.

If the activations of a batch do not fit the memory of a step, the batch is divided. For a loss that is a sum over
queries, the texts of some queries are computed forward and backward before those of the next. The gradient is the same,
and nothing is computed twice. Other losses use caching, and so do several processes and a query that does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from drtools.models.cpu.dropout import seeded
from drtools.models.length_batches import batches_by_length
from drtools.models.protocol import Learner
from drtools.models.tokens import Tokenized, on_device
from drtools.randomness import generator
from drtools.training.memory import budget_of, bytes_by_text, query_groups

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.training.distributed import World
    from drtools.training.memory import Separate, Separation


LEAST_CHUNK_TOKENS = 1024  # smaller chunks slow down a core's matrix products


class Batch(Protocol):
    """What the loop needs from a method's batch. A loss may use more of it.

    `tokens[side]` is this process's share of the texts of a side. `counts[side]` has the number of texts of each
    process. A method that trains one side has only that side. `model.of(side)` is a module with a `body` and a
    `dimension` D, which computes rows [texts, D] from `tokens.inputs(rows)`. The rows of an encoder are vectors, those
    of a ranker logits (D = 1), those of a masked language model the summed losses of each text.
    """

    @property
    def tokens(self) -> Mapping[str, Tokenized]:
        """This process's share of the texts of each side."""

    @property
    def counts(self) -> Mapping[str, Sequence[int]]:
        """The number of texts of each process, for each side."""


Metrics = dict[str, float]  # numbers of a step for the log
# (vectors [N, D] of each side in the order of the batch, the batch) -> (loss [], metrics for the log)
Loss = Callable[..., tuple[Tensor, Metrics]]


class Chunk(NamedTuple):
    """Texts that are encoded together."""

    side: str
    rows: np.ndarray
    seed: int


class Group(NamedTuple):
    """Chunks that are all computed forward before the backward pass, and whether their graphs are kept until then."""

    chunks: list[Chunk]
    keep: bool


class Gradients:
    """Adds the gradients of batches to the parameters of a model.

    With `parallel`, cores compute their own chunks, which requires random numbers that depend only on the thread.
    `separate(batch)` returns the query of each text, for a loss that is a sum over queries. A batch is divided if its
    activations take more than `budget` bytes.
    """

    def __init__(
        self,
        model: Learner,
        computing: Compute,
        world: World,
        caching: bool,
        parallel: bool,
        separate: Separate | None = None,
        budget: float | None = None,
    ) -> None:
        self.model, self.computing, self.world, self.caching = model, computing, world, caching
        self.separate = separate
        self.budget = budget_of(model, computing) if budget is None else budget
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.cores = torch.get_num_threads() if parallel else 1
        self.scale = 1.0  # of the loss, in float16
        self.slots = 0  # tokens of all chunks, including padding

    def of(self, batch: Batch, loss_of: Loss, *seed: object) -> tuple[float, Metrics]:
        """Add the gradients of a batch to the parameters. Returns its loss and metrics.

        The gradients are the same in every process.
        """
        separation = self._separation(batch)
        self.slots = 0
        groups = self.groups(batch, separation, seed)
        rows = {side: self._rows_before(batch, separation, side) for side in batch.tokens}
        for group in groups:
            loss, metrics = self._of_group(batch, group, rows, loss_of)
        self.world.sum_gradients(self.parameters)
        # the loss of the last group is that of the whole batch, because all vectors are known by then
        return float(loss.detach()), metrics

    def division(self, batch: Batch) -> tuple[list[Group], float]:
        """Return the groups of a batch, and the bytes of the activations of all its texts."""
        separation = self._separation(batch)
        costs = bytes_by_text(self.model, batch.tokens, self.computing, separation)
        return self.groups(batch, separation), float(sum(cost.sum() for cost in costs.values()))

    def activations(self, batch: Batch) -> float:
        """Estimate the bytes of the activations that a step holds at a time."""
        separation = self._separation(batch)
        costs = bytes_by_text(self.model, batch.tokens, self.computing, separation)
        most = 0.0
        for group in self.groups(batch, separation):
            loads = [float(costs[chunk.side][chunk.rows].sum()) for chunk in group.chunks]
            most = max(most, sum(loads) if group.keep else self.cores * max(loads))
        return most

    def _separation(self, batch: Batch) -> Separation | None:
        return self.separate(batch) if self.separate and self.world.size == 1 else None

    def _of_group(self, batch: Batch, group: Group, rows: dict[str, Tensor], loss_of: Loss) -> tuple[Tensor, Metrics]:
        """Add the gradients of a group, and write its vectors into `rows`.

        In a loss that is a sum over queries, the vectors of other groups do not change these gradients.
        """
        chunks = group.chunks
        with self._cores(len(chunks)) as each:
            parts = list(each(lambda chunk: self._encode(batch, chunk, group.keep), chunks))
        for chunk, vectors in zip(chunks, parts, strict=True):
            own = rows[chunk.side]
            own[torch.from_numpy(chunk.rows).to(own.device)] = vectors.detach().to(own.dtype)
        leaves = {
            side: self.world.gather(own.clone(), batch.counts[side]).requires_grad_() for side, own in rows.items()
        }
        loss, metrics = loss_of(*leaves.values(), batch)
        (loss * self.scale if self.scale != 1 else loss).backward()
        gradients = {side: self._own_rows(batch, leaf, side) for side, leaf in leaves.items()}
        graphs: Sequence[Tensor | None] = parts if group.keep else [None] * len(chunks)
        del parts  # with caching, this frees their memory
        with self._cores(len(chunks)) as each:
            for found in each(lambda pair: self._backward(batch, gradients, *pair), zip(chunks, graphs, strict=True)):
                self._add(found)
        return loss, metrics

    def groups(self, batch: Batch, separation: Separation | None, seed: Sequence[object] = ()) -> list[Group]:
        """Divide a batch into groups of chunks that fit the memory of a step."""
        costs = bytes_by_text(self.model, batch.tokens, self.computing, separation)
        numbers = count()
        everything = {side: np.arange(len(cost)) for side, cost in costs.items()}
        total = float(sum(cost.sum() for cost in costs.values()))
        if separation is None or self.caching or total <= self.budget:
            chunks = self._chunks(batch, everything, costs, numbers, seed)
            return [Group(chunks, keep=not self.caching and total <= self.budget)]
        owners = separation.owners
        if all(len(np.unique(each)) == len(each) for each in owners.values()) and len(owners) == 1:
            chunks = self._chunks(batch, everything, costs, numbers, seed)  # of similar length, as in a whole batch
            loads = [float(costs[chunk.side][chunk.rows].sum()) for chunk in chunks]
            return [Group(chunks[part], keep=True) for part in query_groups(loads, self.budget)]
        queries = 1 + max(int(each.max(initial=0)) for each in owners.values())
        loads = (
            np.stack([np.bincount(owners[side], cost, queries) for side, cost in costs.items()]).sum(axis=0).tolist()
        )
        found = []
        for part in query_groups(loads, self.budget):
            rows = {side: np.flatnonzero((part.start <= each) & (each < part.stop)) for side, each in owners.items()}
            chunks = self._chunks(batch, rows, costs, numbers, seed)
            found.append(Group(chunks, keep=bool(sum(loads[part]) <= self.budget)))
        return found

    def _chunks(
        self,
        batch: Batch,
        rows: dict[str, np.ndarray],
        costs: dict[str, np.ndarray],
        numbers: Iterator[int],
        seed: Sequence[object],
    ) -> list[Chunk]:
        """Divide rows of each side into chunks of similar length. `numbers` counts the chunks of a batch."""
        lengths = {side: batch.tokens[side].lengths[part] for side, part in rows.items()}
        most = self.computing.batch_tokens
        if self.cores > 1:  # a number of chunks with which all cores end together
            total = sum(int(values.sum()) for values in lengths.values())
            rounds = max(1, -(-total // (self.cores * most)))
            most = min(most, max(LEAST_CHUNK_TOKENS, -(-total // (self.cores * rounds))))
        fits = bool(sum(float(costs[side][part].sum()) for side, part in rows.items()) <= self.budget)
        chunks = []
        for side in reversed(lengths):
            if not len(rows[side]):
                continue
            if not fits:  # the graphs are not kept, and each core holds that of one chunk
                dearest = float((costs[side][rows[side]] / np.maximum(1, lengths[side])).max())
                most = min(most, max(1, int(self.budget / (self.cores * dearest))))
            for part in batches_by_length(lengths[side], most):
                number = int(generator(*seed, self.world.rank, next(numbers)).integers(2**62))
                chunks.append(Chunk(side, rows[side][part], number))
        self.slots += sum(len(chunk.rows) * int(batch.tokens[chunk.side].lengths[chunk.rows[0]]) for chunk in chunks)
        return chunks

    @contextmanager
    def _cores(self, chunks: int) -> Iterator[Callable[..., Iterator[Any]]]:
        if self.cores == 1:
            yield map
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, self.cores // max(1, chunks)))
        try:
            pool = ThreadPoolExecutor(min(self.cores, max(1, chunks)))
            try:
                yield pool.map
            finally:
                pool.shutdown(cancel_futures=True)  # a second Ctrl-C waits for the chunks that have begun alone
        finally:
            torch.set_num_threads(threads)

    def _encode(self, batch: Batch, chunk: Chunk, keep: bool) -> Tensor:  # -> [rows, D]
        half, tokens = self.model.of(chunk.side), batch.tokens[chunk.side]
        inputs = on_device(tokens.inputs(chunk.rows), self.computing.device)  # in the form that the model takes
        if self.cores == 1:
            torch.manual_seed(chunk.seed)
        computing = self.computing
        autocast = torch.autocast(computing.kind, computing.autocast_type, enabled=computing.precision != "fp32")
        with torch.set_grad_enabled(keep), autocast, seeded(chunk.seed):
            return half(*inputs)

    def _rows_before(self, batch: Batch, separation: Separation | None, side: str) -> Tensor:
        """Return the rows of a side [N, D] before any of its texts is encoded."""
        if separation and side in separation.known:
            return torch.from_numpy(separation.known[side]).to(self.computing.device)
        shape = len(batch.tokens[side].lengths), self.model.of(side).dimension
        return torch.zeros(shape, device=self.computing.device)

    def _own_rows(self, batch: Batch, leaf: Tensor, side: str) -> Tensor:
        assert leaf.grad is not None, "a loss depends on all vectors"
        first = sum(batch.counts[side][: self.world.rank])
        return leaf.grad[first : first + batch.counts[side][self.world.rank]]

    def _backward(
        self, batch: Batch, own: dict[str, Tensor], chunk: Chunk, vectors: Tensor | None
    ) -> Sequence[Tensor | None]:
        if vectors is None:
            vectors = self._encode(batch, chunk, keep=True)
        gradient = own[chunk.side][torch.from_numpy(chunk.rows).to(vectors.device)]
        if self.cores == 1:
            vectors.backward(gradient)
            return ()
        # several threads would add to one gradient in an order that varies
        return torch.autograd.grad(vectors, self.parameters, gradient, allow_unused=True)

    def _add(self, found: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(
            self.parameters, found, strict=False
        ):  # None where backward() has added it already
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
