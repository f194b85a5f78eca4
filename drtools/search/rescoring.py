"""Exact scores, from the vectors, of what an index of compressed vectors found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drtools.errors import InputError
from drtools.search import exact

if TYPE_CHECKING:
    from drtools.formats.ids import Ids
    from drtools.formats.joined_vectors import JoinedArray
    from drtools.formats.vectors import Vectors
    from drtools.outputs.records import Record


def rescored(
    vectors: np.ndarray | JoinedArray, queries: np.ndarray, rows: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of candidates by their inner products with the vectors [N, D] themselves.

    `rows` int64 [Q, C] are the candidates of queries [Q, D], -1 for none. Returns scores float32 [Q, k] and rows int64
    [Q, k], best first, with k = min(depth, C); of equal scores the lower row comes first, and -1 is last.
    """
    scores = np.full(rows.shape, -np.inf, np.float32)
    found = exact.rerank(vectors, queries, [own[own >= 0] for own in rows])
    for at, values in enumerate(found):
        scores[at, rows[at] >= 0] = values
    order = np.lexsort((rows, -scores), axis=1)[:, :depth]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def refuse_other_vectors(vectors: Vectors, index: Path, ids: Ids, record: Record) -> None:
    """Raise InputError for an index, with its ids and manifest, that was not built from vectors."""
    same = vectors.manifest["document_fingerprint"] == record["document_fingerprint"]
    if not same or ids.bytes[:] != vectors.ids.bytes[:]:
        raise InputError(
            f"not an index of {vectors.path}",
            where=index,
            remedy="build it from them, or leave one of the two out",
        )
