"""Recall of an approximate search against exact search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import JoinedArray


def found_share(rows: np.ndarray, vectors: np.ndarray | JoinedArray, queries: np.ndarray, depth: int) -> float:
    """Return the mean share of the exact top `depth` that is in `rows` [Q, k], where -1 is no row.

    Of rows with equal scores at the last rank, any one counts as found.
    """
    from drtools.search import exact  # here, since nothing else of an approximate search needs torch

    best, _ = exact.search(vectors, queries, depth)
    found = exact.rerank(vectors, queries, [row[row >= 0] for row in rows])
    enough = best[:, -1] - 1e-6 * np.abs(best[:, -1])  # two float32 sums of one product
    return float(
        np.mean([(scores >= least).sum() / best.shape[1] for scores, least in zip(found, enough, strict=True)])
    )


def as_queries(vectors: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """Return documents' vectors [N, D] as queries of the vectors of a manifest are: with mu, if they are joined.

    The two parts of a sum cannot be told apart, and are left as they are.
    """
    joined = record.get("joined")
    if not joined or joined["how"] == "sum":
        return vectors
    first, second = joined["parts"]
    split = first["dimension"]
    return np.concatenate(
        [
            as_queries(vectors[:, :split], first),
            np.float32(joined["mu"]) * as_queries(vectors[:, split:], second),
        ],
        axis=1,
    )
