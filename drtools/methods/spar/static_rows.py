"""Fit a static lexical encoder: the rows of terms whose inner products come nearest to BM25 in so many dimensions.

Let W [N, T] hold the documents' BM25 weights without idf, and M [T, T] the second moment of queries' term weights
(count * idf). BM25 asks of two sets of rows, Q and D [T, K], that W D Q^T = W diag(idf). The mean square error over
queries and documents is least where the documents' vectors W D span the first K left singular vectors U of W M^(1/2)
(Eckart and Young 1936), that is the first eigenvectors of W M W^T. Of term t's column w_t, U then holds the part h_t =
|U^T w_t|^2 / |w_t|^2. Rankings want a rare term to count fully more than they want the least square: each query row is
divided by its h_t, so that its weight is right on average over the documents that hold it.
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
LEAST_SHARE = 1e-3  # of a term's column that the vectors hold; below it there is nothing to lift
LEAST_LENGTH = 1e-5  # beside the longest: below it float32 holds nothing but noise


class Demand(NamedTuple):
    """What queries ask for.

    M = diag(idf) (`joint`^T `joint` + diag(`alone`)) diag(idf), of mean 1 on the diagonal without idf.

    `alone` [T] is the share of each term by itself, `joint` sparse [queries, T] are terms that come together, None
    without queries.
    """

    alone: np.ndarray
    joint: csr_matrix | None = None


def expected_demand(frequencies: np.ndarray, counts: csr_matrix | None = None) -> Demand:
    """Return what to expect of queries: terms by the square root of their document frequencies [ours].

    With the counts [queries, T] of known queries: a third by that rule, a third by these queries' terms each alone, a
    third as they come together [ours].
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
    """Return the rows of terms in queries and in documents, for weights of which each side has the square root of idf.

    Documents' vectors have a mean square length of 1. Where K is over N, what is over stays 0: N dimensions hold all.
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
            for first in range(0, joint.shape[0], QUERIES_AT_ONCE):  # [Q, K] of all queries at once would not fit
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
    """Return what makes vectors' columns orthogonal and of length 1.

    Directions that hold nothing (documents alike) are left out.
    """
    wide = vectors.double()
    squares, directions = torch.linalg.eigh(wide.T @ wide)
    lengths = squares.clamp(min=0).sqrt()
    full = lengths > LEAST_LENGTH * lengths[-1]
    whitening: Tensor = (directions[:, full] / lengths[full]).float()
    return whitening
