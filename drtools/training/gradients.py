"""Compute the gradients of one batch: encode chunks, compute the loss of all vectors, backpropagate through each chunk.

A loss gets vectors without their graphs. Each process encodes its share in chunks of similar length. All vectors are
gathered, every process computes the loss of the global batch, and each process backpropagates the gradient of its own
vectors through its own chunks. With caching, the graph of a chunk is discarded and computed again, so that memory does
not grow with the batch. On a processor, each core computes its own chunks in one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from drtools.models.cpu.dropout import seeded
from drtools.models.length_batches import batches_by_length
from drtools.models.protocol import Learner
from drtools.models.tokens import Tokenized
from drtools.randomness import generator

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.training.distributed import World


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


class Gradients:
    """Adds the gradients of batches to the parameters of a model.

    With `parallel`, cores compute their own chunks, which requires random numbers that depend only on the thread.
    """

    def __init__(self, model: Learner, computing: Compute, world: World, caching: bool, parallel: bool) -> None:
        self.model, self.computing, self.world, self.caching = model, computing, world, caching
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.cores = torch.get_num_threads() if parallel else 1
        self.slots = 0  # tokens of all chunks, including padding

    def of(self, batch: Batch, loss_of: Loss, *seed: object) -> tuple[float, Metrics]:
        """Add the gradients of a batch to the parameters. Returns its loss and metrics.

        The gradients are the same in every process.
        """
        chunks = self._chunks(batch, seed)
        with self._cores(len(chunks)) as each:
            parts = list(each(lambda chunk: self._encode(batch, chunk, keep=not self.caching), chunks))
        leaves = {side: self._gathered(batch, chunks, parts, side) for side in batch.tokens}
        loss, metrics = loss_of(*leaves.values(), batch)
        loss.backward()
        own = {side: self._own_rows(batch, leaf, side) for side, leaf in leaves.items()}
        graphs: Sequence[Tensor | None] = [None] * len(chunks) if self.caching else parts
        del parts  # with caching, this frees their memory
        with self._cores(len(chunks)) as each:
            for found in each(lambda pair: self._backward(batch, own, *pair), zip(chunks, graphs, strict=True)):
                self._add(found)
        self.world.sum_gradients(self.parameters)
        return float(loss.detach()), metrics

    def _chunks(self, batch: Batch, seed: Sequence[object]) -> list[Chunk]:
        lengths = {side: tokens.lengths for side, tokens in batch.tokens.items()}
        most = self.computing.batch_tokens
        if self.cores > 1:  # a number of chunks with which all cores end together
            total = sum(int(values.sum()) for values in lengths.values())
            rounds = max(1, -(-total // (self.cores * most)))
            most = min(most, max(LEAST_CHUNK_TOKENS, -(-total // (self.cores * rounds))))
        rows = [(side, part) for side in reversed(lengths) for part in batches_by_length(lengths[side], most)]
        self.slots = sum(len(part) * int(lengths[side][part[0]]) for side, part in rows)
        return [
            Chunk(side, part, int(generator(*seed, self.world.rank, index).integers(2**62)))
            for index, (side, part) in enumerate(rows)
        ]

    @contextmanager
    def _cores(self, chunks: int) -> Iterator[Callable[..., Iterator[Any]]]:
        if self.cores == 1:
            yield map
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, self.cores // max(1, chunks)))
        try:
            with ThreadPoolExecutor(min(self.cores, max(1, chunks))) as pool:
                yield pool.map
        finally:
            torch.set_num_threads(threads)

    def _encode(self, batch: Batch, chunk: Chunk, keep: bool) -> Tensor:  # -> [rows, D]
        device = self.computing.device
        half, tokens = self.model.of(chunk.side), batch.tokens[chunk.side]
        inputs = [  # in the form that the model of the side takes
            torch.from_numpy(part).to(device) if isinstance(part, np.ndarray) else part
            for part in tokens.inputs(chunk.rows)
        ]
        if self.cores == 1:
            torch.manual_seed(chunk.seed)
        autocast = torch.autocast(self.computing.kind, torch.bfloat16, enabled=self.computing.precision == "bf16")
        with torch.set_grad_enabled(keep), autocast, seeded(chunk.seed):
            return half(*inputs)

    def _gathered(self, batch: Batch, chunks: list[Chunk], parts: list[Tensor], side: str) -> Tensor:
        own = torch.empty(len(batch.tokens[side].lengths), self.model.of(side).dimension, device=self.computing.device)
        for chunk, vectors in zip(chunks, parts, strict=True):
            if chunk.side == side:
                own[torch.from_numpy(chunk.rows).to(own.device)] = vectors.detach()
        return self.world.gather(own, batch.counts[side]).requires_grad_()

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
