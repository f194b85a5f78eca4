"""One query before and after training, with its positives and top documents, in a plane (Zhan et al. 2021, Figure 6).

There are two planes. The paper's is t-SNE, which keeps near points near; distances between far points mean nothing. The
other is a linear projection. Its first axis is the direction in which the query moved, so the whole move is visible,
and a document's position on it is the change of its score. The second axis is the orthogonal direction in which the
documents differ most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import JoinedArray

BLOCK_ROWS = 65536
PERPLEXITY = 30.0  # scikit-learn's default; fewer points take a third of them
SEED = 0


class Plane(NamedTuple):
    """Points of a plane: the documents [n, 2], and the query before and after [2, 2]."""

    documents: np.ndarray
    queries: np.ndarray


class Projection(NamedTuple):
    """Points of a plane as in `Plane`; `spread` is the share of the documents' variance that it shows."""

    documents: np.ndarray
    queries: np.ndarray
    spread: float


def all_scores(vectors: np.ndarray | JoinedArray, queries: np.ndarray) -> np.ndarray:
    """Return the inner products [Q, N] of queries [Q, D] float32 with every vector [N, D], read block by block."""
    scores = np.empty((len(queries), len(vectors)), np.float32)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = np.asarray(vectors[start : start + BLOCK_ROWS], np.float32)
        scores[:, start : start + len(block)] = queries @ block.T
    return scores


def best_rows(scores: np.ndarray, depth: int) -> list[int]:
    """Return the rows of the highest scores [N], best first; of equal scores the lower row comes first."""
    rows: list[int] = np.argsort(-scores, kind="stable")[:depth].tolist()
    return rows


def rank_of(scores: np.ndarray, row: int) -> int:
    """Return the rank of a row, from 1, among scores [N]; of equal scores the lower row comes first."""
    return 1 + int((scores > scores[row]).sum()) + int((scores[:row] == scores[row]).sum())


def project(documents: np.ndarray, before: np.ndarray, after: np.ndarray) -> Projection | None:
    """Project documents [n, D] and a query's two vectors [D]; None if the query did not move.

    Both axes have length 1 and the origin is the documents' mean, so distances in the plane are at most the true ones.
    """
    documents, before, after = (np.asarray(array, np.float64) for array in (documents, before, after))
    move = after - before
    length = np.linalg.norm(move)
    if length == 0:
        return None
    first = move / length
    middle = documents.mean(axis=0)
    centred = documents - middle
    across = centred - np.outer(centred @ first, first)
    second = np.linalg.svd(across, full_matrices=False)[2][0]
    second -= (second @ first) * first  # where documents span no other direction, any would do
    second /= max(np.linalg.norm(second), np.finfo(np.float64).tiny)
    second *= 1.0 if second[np.abs(second).argmax()] > 0 else -1.0  # the sign of a singular vector is arbitrary
    plane = np.stack([first, second], axis=1)
    shown = centred @ plane
    variance = float((centred**2).sum())
    return Projection(
        shown, (np.stack([before, after]) - middle) @ plane, float((shown**2).sum()) / variance if variance else 1.0
    )


def embed(documents: np.ndarray, before: np.ndarray, after: np.ndarray) -> Plane:
    """Embed documents [n, D] and a query's two vectors [D] in a plane by scikit-learn's t-SNE.

    It starts from the principal components and computes exactly, so that the same vectors give the same points.
    """
    from sklearn.manifold import TSNE

    points = np.concatenate([np.asarray(documents, np.float64), np.stack([before, after]).astype(np.float64)])
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=SEED, method="exact").fit_transform(points)
    return Plane(plane[:-2], plane[-2:])
