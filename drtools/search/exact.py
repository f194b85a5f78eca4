"""Exact search: inner products between queries and all vectors, read from a memory map block by block.

Of two rows with the same float32 score the lower row comes first. `torch.topk` guarantees no order among equal values.
So it does not select scores here but unique keys: an int64 with the order of the score in the high 32 bits and the
inverted row in the low 32 bits.

A matrix product may sum in a different order when its shape is ragged. So every side is padded with zeros to a multiple
of 16. Then a pair has the same score, bit for bit, for any block size and any other queries in the batch. This was
observed with MKL at 10 to 4,096 dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from drtools.models.device import device_kind
from drtools.search.checks import check_queries, name, refuse_empty, refuse_not_finite
from drtools.search.staging import rows_of_half, staged

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import JoinedArray

CHUNK_QUERIES = 1024
# A block's vectors and scores in float32; on the CPU they stay in its cache.
BLOCK_BYTES = {"cpu": 16 << 20, "cuda": 1 << 30}
SIDE = 16
# Rows are compared with the k-th best score in groups: first their maximum, and the eight scores only if it passes.
GROUP_ROWS = 8
LARGEST_ROW = 0xFFFFFFFF


def search(
    vectors: np.ndarray | JoinedArray | torch.Tensor,
    queries: np.ndarray,
    depth: int,
    device: str = "cpu",
    block_rows: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows with the highest inner product for each query; of equal scores the lower row comes first.

    vectors: [N, D] float16 or float32, usually a memory map, or a tensor that is kept on the device. queries: [Q, D]
    float32. Returns scores float32 [Q, k] and rows int64 [Q, k], best first, with k = min(depth, N). `on_progress` is
    called after each block with the number of rows done. All devices but `cuda` compute on the CPU. Raises InputError
    if there are no vectors, the dimensions differ, or a value is not finite.
    """
    check_queries(queries, vectors.shape[1], name(vectors))
    refuse_empty(vectors)
    assert depth >= 1 and len(vectors) <= LARGEST_ROW
    device = device if device.startswith("cuda") else "cpu"
    k = min(depth, len(vectors))
    if len(queries) == 0:
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    chunks = [
        torch.from_numpy(queries[start : start + CHUNK_QUERIES]) for start in range(0, len(queries), CHUNK_QUERIES)
    ]
    best = [Best.empty(len(chunk), k, device) for chunk in chunks]
    chunks = [filled_up(chunk.to(device)) for chunk in chunks]
    if block_rows is None:
        block_rows = BLOCK_BYTES[device_kind(device)] // (4 * (len(chunks[0]) + vectors.shape[1]))
        if device != "cpu" and not isinstance(vectors, torch.Tensor):  # it goes through page-locked memory
            block_rows = min(block_rows, rows_of_half(vectors.shape[1], vectors.dtype))
    block_rows = -(-min(block_rows, len(vectors)) // SIDE) * SIDE
    products = torch.empty(len(chunks[0]), block_rows, device=device)
    for start, count, block in blocks(vectors, block_rows, device):
        for chunk, chunk_best in zip(chunks, best, strict=True):
            scores = torch.mm(chunk, block.T, out=products[: len(chunk)])
            refuse_not_finite(vectors, scores[0, :count].isfinite().cpu().numpy(), range(start, start + count))
            scores[:, count:] = -torch.inf
            chunk_best.offer(scores[: len(chunk_best.keys)], start)
        if on_progress:
            on_progress(start + count)
    found = [from_keys(chunk_best.merged().sort(descending=True).values) for chunk_best in best]
    best_scores, best_rows = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return best_scores, best_rows


def rerank(
    vectors: np.ndarray | JoinedArray, queries: np.ndarray, candidate_rows: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Score given rows for each query, with the same inner products as `search`.

    vectors: [N, D] float16 or float32. queries: [Q, D] float32. candidate_rows: Q arrays of rows [C], in any order and
    without -1. Returns Q arrays float32 [C]. Raises InputError as `search` does.
    """
    check_queries(queries, vectors.shape[1], name(vectors))
    result = []
    for query, rows in zip(queries, candidate_rows, strict=True):
        assert len(rows) == 0 or (rows.min() >= 0 and rows.max() < len(vectors))
        gathered = filled_up(torch.from_numpy(vectors[rows]).float())
        scores = (filled_up(torch.from_numpy(query[None])) @ gathered.T)[0, : len(rows)]
        refuse_not_finite(vectors, scores.isfinite().numpy(), rows)
        result.append(scores.numpy())
    return result


@dataclass
class Best:
    """The best k rows so far for each of Q queries.

    keys: [Q, k] int64, in no order. threshold: [Q], the score that a further row must exceed. Rows that exceed it are
    collected in `pending` as (query, key) until a merge is worthwhile. Blocks come in ascending order of rows, so a row
    with exactly the threshold's score would lose the tie.
    """

    keys: torch.Tensor
    threshold: torch.Tensor
    pending: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    @classmethod
    def empty(cls, queries: int, k: int, device: str) -> Best:
        """Return the initial state of `queries` queries: no rows, scores of minus infinity."""
        threshold = torch.full((queries,), -torch.inf, device=device)
        lowest = to_keys(threshold, torch.full((queries,), LARGEST_ROW, device=device))
        return cls(lowest[:, None].repeat(1, k), threshold)

    def offer(self, scores: torch.Tensor, first_row: int) -> None:
        """Add the scores of a block, [Q, rows of the block], that exceed the threshold."""
        k = self.keys.shape[1]
        if first_row == 0 and k <= scores.shape[1]:
            lowest_kept = scores.topk(k, sorted=False).values.amin(1)
            self.threshold = torch.nextafter(lowest_kept, torch.full_like(lowest_kept, -torch.inf))
        # Group c holds rows c, c + columns, c + 2 * columns ..., because a maximum over whole slices is faster.
        groups = scores.unflatten(1, (GROUP_ROWS, -1))
        query, column = torch.nonzero(groups.amax(1) > self.threshold[:, None], as_tuple=True)
        candidates = groups[query, :, column]
        group, member = torch.nonzero(candidates > self.threshold[query, None], as_tuple=True)
        rows = first_row + member * groups.shape[2] + column[group]
        self.pending.append((query[group], to_keys(candidates[group, member], rows)))
        if sum(len(keys) for _, keys in self.pending) >= self.keys.numel() // 2:
            self.merged()

    def merged(self) -> torch.Tensor:
        """Merge the pending rows and return the keys [Q, k], in no order."""
        if not self.pending:
            return self.keys
        query = torch.cat([query for query, _ in self.pending])
        keys = torch.cat([keys for _, keys in self.pending])
        self.pending.clear()
        query, order = query.sort()
        counts = query.bincount(minlength=len(self.keys))
        position = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
        lowest = torch.iinfo(torch.int64).min
        table = torch.full((len(self.keys), int(counts.max())), lowest, device=keys.device)
        table[query, position] = keys[order]
        self.keys = torch.cat([self.keys, table], 1).topk(self.keys.shape[1], sorted=False).values
        self.threshold = from_keys(self.keys.amin(1))[0]
        return self.keys


def to_keys(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Combine float32 scores and rows of the same shape into int64 keys that sort by score, then lower row first."""
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0, which is equal to it
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (LARGEST_ROW - rows)


def from_keys(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split keys into float32 scores and int64 rows."""
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), LARGEST_ROW - (keys & LARGEST_ROW)


def blocks(
    vectors: np.ndarray | JoinedArray | torch.Tensor, block_rows: int, device: str
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first row, rows, float32 [block_rows, D]) for all of vectors [N, D]; zeros follow the rows of the last.

    The tensor is reused.
    """
    block = torch.empty(block_rows, vectors.shape[1], device=device)
    if isinstance(vectors, torch.Tensor):
        for start in range(0, len(vectors), block_rows):
            count = min(block_rows, len(vectors) - start)
            block[:count] = vectors[start : start + count]
            block[count:] = 0
            yield start, count, block
        return
    if device != "cpu":
        parts = [slice(start, start + block_rows) for start in range(0, len(vectors), block_rows)]
        for part, (count, rows) in zip(parts, staged(vectors, parts, device), strict=True):
            block[:count] = rows
            block[count:] = 0
            yield part.start, count, block
        return
    # torch converts float16 forty times faster than numpy, but warns of memory that it may not write to
    read = torch.empty(block.shape, dtype=torch.float16 if vectors.dtype == "float16" else torch.float32)
    for start in range(0, len(vectors), block_rows):
        count = min(block_rows, len(vectors) - start)
        read.numpy()[:count] = vectors[start : start + count]
        block[:count] = read[:count]
        block[count:] = 0
        yield start, count, block


def filled_up(matrix: torch.Tensor) -> torch.Tensor:
    """Add zero rows to a matrix up to a multiple of SIDE."""
    return torch.nn.functional.pad(matrix, (0, 0, 0, -len(matrix) % SIDE))
