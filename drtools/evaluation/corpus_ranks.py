"""Ranks of given documents in the whole corpus, and their scores, from vectors.

A run has ranks down to its depth only. Here one pass over all vectors counts the documents above each relevant one, at
any rank.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from drtools import reporting
from drtools.evaluation.sides import Sides, query_rows, rows_of
from drtools.models.device import device_kind
from drtools.search import checks, exact

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import JoinedArray

PAIRS_A_COUNT = 1024  # (query, document) pairs whose scores are compared together


def above_in_corpus(
    label: str, sides: Sides, relevant: Mapping[str, Collection[str]], device: str
) -> dict[str, list[int]]:
    """Return for each query how many non-relevant documents rank above each relevant one, ascending."""
    vectors = sides.documents
    rows = [rows_of(vectors, documents) for documents in relevant.values()]
    with reporting.progress(f"counting the documents above: {label}", len(vectors.array), "documents") as progress:
        counts = count_above(vectors.array, query_rows(sides, list(relevant)), rows, device, progress.advance)
    # the k-th of several relevant documents from the top has k relevant ones above it
    return {
        query: [int(count) - k for k, count in enumerate(sorted(above))]
        for query, above in zip(relevant, counts, strict=True)
    }


def scores_of(sides: Sides, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Return {query: {document: score}} for the wanted documents, without those that have no vector."""
    ids = {
        query: [document for document in documents if sides.documents.ids.row_of(document) is not None]
        for query, documents in wanted.items()
    }
    rows = [rows_of(sides.documents, documents) for documents in ids.values()]
    found = exact.rerank(sides.documents.array, query_rows(sides, list(wanted)), rows)
    return {
        query: dict(zip(ids[query], scores.tolist(), strict=True)) for query, scores in zip(wanted, found, strict=True)
    }


def count_above(
    vectors: np.ndarray | JoinedArray,
    queries: np.ndarray,
    rows: Sequence[np.ndarray],
    device: str = "cpu",
    on_progress: Callable[[int], None] = lambda count: None,
) -> list[np.ndarray]:
    """Count the vectors that rank above given ones: with a higher inner product, or the same and a lower row.

    vectors: [N, D] float16 or float32. queries: [Q, D] float32. rows: Q arrays of rows [C]. Returns Q arrays int64 [C];
    on the CPU these are the ranks of exact search minus 1. `on_progress` is called with the number of vectors just
    compared. All devices but `cuda` compute on the CPU. Raises InputError as exact search does.
    """
    checks.check_queries(queries, vectors.shape[1], checks.name(vectors))
    checks.refuse_empty(vectors)
    device = device if device.startswith("cuda") else "cpu"
    limits = exact.rerank(vectors, queries, rows)
    chunks = [
        _Chunk(queries[part], rows[part], limits[part], device)
        for part in (slice(at, at + exact.CHUNK_QUERIES) for at in range(0, len(queries), exact.CHUNK_QUERIES))
    ]
    if not chunks:
        return []
    block_rows = exact.BLOCK_BYTES[device_kind(device)] // (4 * (len(chunks[0].queries) + vectors.shape[1]))
    block_rows = -(-min(block_rows, len(vectors)) // exact.SIDE) * exact.SIDE
    products = torch.empty(len(chunks[0].queries), block_rows, device=device)
    for start, count, block in exact.blocks(vectors, block_rows, device):
        for chunk in chunks:
            scores = torch.mm(chunk.queries, block.T, out=products[: len(chunk.queries)])[:, :count]
            checks.refuse_not_finite(vectors, scores[0].isfinite().cpu().numpy(), range(start, start + count))
            chunk.count(scores, start)
        on_progress(count)
    counts = np.concatenate([chunk.above.cpu().numpy() for chunk in chunks])
    return np.split(counts, np.cumsum([len(own) for own in rows])[:-1])


class _Chunk:
    """Some queries with their (query, row) pairs, and the number of vectors above each row so far."""

    def __init__(
        self, queries: np.ndarray, rows: Sequence[np.ndarray], limits: Sequence[np.ndarray], device: str
    ) -> None:
        def flat(parts: Sequence[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
            return torch.from_numpy(np.concatenate(parts)).to(device, dtype)

        self.queries = exact.filled_up(torch.from_numpy(queries).to(device))
        owners = [np.full(len(own), at) for at, own in enumerate(rows)]
        self.owner, self.rows, self.limits = (
            flat(owners, torch.long),
            flat(rows, torch.long),
            flat(limits, torch.float32),
        )
        self.above = torch.zeros_like(self.rows)

    def count(self, scores: torch.Tensor, start: int) -> None:
        """Add the vectors of a block that rank above, by its scores [Q, rows of the block]."""
        end = start + scores.shape[1]
        # of equal scores, lower rows rank above: if this holds for the whole block, compare with the next lower number
        below = torch.nextafter(self.limits, torch.full_like(self.limits, -torch.inf))
        limits = torch.where(self.rows >= end, below, self.limits)
        for first in range(0, len(limits), PAIRS_A_COUNT):
            part = slice(first, first + PAIRS_A_COUNT)
            self.above[part] += (scores[self.owner[part]] > limits[part, None]).sum(1)
        for pair in torch.nonzero((self.rows >= start) & (self.rows < end))[:, 0].tolist():
            own, place = scores[self.owner[pair]], int(self.rows[pair]) - start
            self.above[pair] += (own[:place] == self.limits[pair]).sum() - (own[place] > self.limits[pair]).long()
