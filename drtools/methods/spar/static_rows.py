"""Fit a static lexical encoder: rows of terms whose inner products approximate BM25 in a given dimension.

Let W [N, T] be the BM25 weights of documents without idf, and M [T, T] the second moment of the term weights of queries
(count * idf). For two sets of rows, Q and D [T, K], BM25 requires W D Q^T = W diag(idf). The mean square error over
queries and documents is least if the document vectors W D span the first K left singular vectors U of W M^(1/2) (Eckart
and Young 1936), which are the first eigenvectors of W M W^T. U then contains the part h_t = |U^T w_t|^2 / |w_t|^2 of
the column w_t of term t. For ranking, it matters more that a rare term counts fully than that the square error is
least. So each query row is divided by its h_t, which makes its weight right on average over the documents with the
term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

QUERIES_AT_ONCE = 65536
PASSES = 8  # [ours] of subspace iteration
LEAST_SHARE = 1e-3  # share of a term's column in the vectors; smaller shares are not scaled up
LEAST_LENGTH = 1e-5  # relative to the longest; below it float32 has only noise


class Demand(NamedTuple):
    """The expected terms of queries.

    M = diag(idf) (`joint`^T `joint` + diag(`alone`)) diag(idf), where the mean of the diagonal without idf is 1.
    `alone` [T] has the share of each term by itself. `joint` sparse [queries, T] has terms that occur together, and is
    None without queries.
    """

    alone: np.ndarray
    joint: csr_matrix | None = None


def expected_demand(frequencies: np.ndarray, counts: csr_matrix | None = None) -> Demand:
    """Return the expected terms of queries: by the square root of document frequencies [ours].

    With the counts [queries, T] of known queries, one third follows that rule, one third the single terms of these
    queries, and one third their joint occurrences [ours].
    """
    terms = len(frequencies)
    rule = np.sqrt(frequencies) * (terms / np.sqrt(frequencies).sum())
    if counts is None or not counts.sum():
        return Demand(rule)
    each = counts.astype(np.float64) * (terms / counts.sum())
    return Demand((rule + np.asarray(each.sum(axis=0)).ravel()) / 3, counts * np.sqrt(terms / counts.sum() / 3))


def fit_rows(
    weights: csr_matrix,
    idf: np.ndarray,
    demand: Demand,
    dimension: int,
    seed: int,
    on_pass: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, np.ndarray]:  # [N, T], [T] -> float32 [T, K] twice
    """Return the rows of terms in queries and in documents, for weights with the square root of idf on each side.

    Document vectors have a mean square length of 1. If K is greater than N, the remaining dimensions are 0.
    """
    documents, _ = weights.shape
    rank = min(dimension, documents)
    columns = weights.T.tocsr()
    alone = (idf.astype(np.float64) ** 2 * demand.alone).astype(np.float32)[:, None]
    joint = None if demand.joint is None else demand.joint.multiply(idf).tocsr().astype(np.float32)
    basis = np.random.default_rng(seed).standard_normal((documents, rank), dtype=np.float32)
    for _ in range(PASSES):
        held = columns @ torch.linalg.qr(torch.from_numpy(basis))[0].numpy()  # [T, K]
        wanted = alone * held
        if joint is not None:
            for first in range(0, joint.shape[0], QUERIES_AT_ONCE):  # [Q, K] of all queries would not fit in memory
                some = joint[first : first + QUERIES_AT_ONCE]
                wanted += some.T @ (some @ held)
        basis = weights @ wanted
        on_pass(1)
    document_rows = (torch.from_numpy(wanted) @ _whitening(torch.from_numpy(basis))).numpy()
    query_rows = columns @ (weights @ document_rows)
    energy = np.asarray(weights.multiply(weights).sum(axis=0)).ravel()
    share_held = np.maximum((query_rows**2).sum(axis=1) / energy, LEAST_SHARE)
    scale, root = np.sqrt(documents / rank), np.sqrt(idf)
    padding = ((0, 0), (0, dimension - document_rows.shape[1]))
    return (
        np.pad(query_rows * (root / share_held / scale)[:, None], padding).astype(np.float32),
        np.pad(document_rows * (scale / root)[:, None], padding).astype(np.float32),
    )


def _whitening(vectors: Tensor) -> Tensor:  # [N, K] -> float32 [K, R]
    """Return a matrix that makes the columns of vectors orthogonal and of length 1.

    Directions without variance (equal documents) are left out.
    """
    wide = vectors.double()
    squares, directions = torch.linalg.eigh(wide.T @ wide)
    lengths = squares.clamp(min=0).sqrt()
    full = lengths > LEAST_LENGTH * lengths[-1]
    whitening: Tensor = (directions[:, full] / lengths[full]).float()
    return whitening
