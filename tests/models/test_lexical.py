"""Lexical encoders.

Random rows against what theory says of their error, fitted rows against numpy's own factorization.
"""

import numpy as np
import pytest
import scipy.sparse
import torch

from drtools.methods.spar.static_rows import expected_demand, fit_rows
from drtools.models.bm25 import document_weights, inverse_document_frequency, length_in_one_byte
from drtools.models.lexical import random_signs
from drtools.models.terms import TermKeys, WeightedTerms, count_terms


def corpus(
    documents: int = 60, terms: int = 90, seed: int = 0
) -> tuple[scipy.sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Make documents' weights without idf [N, T], idf [T] and document frequencies [T] of terms as unequal as words."""
    draw = np.random.default_rng(seed)
    held = draw.random((documents, terms)) < 0.6 / np.sqrt(np.arange(1, terms + 1))
    held[draw.integers(documents, size=terms), np.arange(terms)] = True
    weights = np.where(held, draw.uniform(0.3, 0.8, held.shape), 0)
    frequencies = held.sum(axis=0)
    return (
        scipy.sparse.csr_matrix(weights.astype(np.float32)),
        inverse_document_frequency(frequencies, documents),
        frequencies,
    )


def vectors(weights, rows, idf) -> np.ndarray:
    """Sum rows by weights of which each side has the square root of idf."""
    return (weights * np.sqrt(idf)) @ rows


def test_lengths_are_those_that_lucene_remembers():
    from drtools.java import java_class

    lucene = java_class("org.apache.lucene.util.SmallFloat")
    lengths = [*range(200), *range(200, 100_000, 997), 2**31 - 1]
    assert length_in_one_byte(np.array(lengths)).tolist() == [
        lucene.byte4ToInt(lucene.intToByte4(length)) for length in lengths
    ]


def test_random_rows_depend_on_seed_and_key_alone():
    keys = np.random.default_rng(0).integers(2**63 - 1, size=300)
    rows = random_signs(keys, 200, 5)
    assert rows.dtype == np.float32 and np.allclose((rows**2).sum(axis=1), 1)
    assert (random_signs(keys[::-1][:7], 200, 5) == rows[::-1][:7]).all()
    assert (random_signs(keys, 64, 5) * 64**0.5 == rows[:, :64] * 200**0.5).all()
    assert abs((random_signs(keys, 200, 6) * rows).sum()) < 5 * 300**0.5 * 200**-0.5
    assert (np.abs(random_signs(np.arange(300), 200, 0).sum(axis=0)) < 5 * 300**0.5 * 200**-0.5).all(), (
        "near keys must not have near rows"
    )


def test_random_rows_are_near_orthogonal_as_independent_signs_are():
    rows = random_signs(np.random.default_rng(1).integers(2**63 - 1, size=400), 128, 1)
    products = (rows @ rows.T)[np.triu_indices(400, 1)]
    assert products.mean() == pytest.approx(0, abs=1e-3) and (products**2).mean() * 128 == pytest.approx(1, rel=0.03)


def test_the_projections_error_shrinks_with_the_square_root_of_the_dimension():
    weights, idf, _ = corpus()
    queries = np.random.default_rng(2).random((40, len(idf))) < 0.05
    exact = (queries * idf) @ weights.T.toarray()
    keys = np.random.default_rng(3).integers(2**63 - 1, size=len(idf))
    scaled = []
    for dimension in (64, 256, 1024, 4096):
        rows = random_signs(keys, dimension, 7)
        error = vectors(queries, rows, idf) @ vectors(weights.toarray(), rows, idf).T - exact
        scaled.append(np.sqrt((error**2).mean() * dimension))
    # independent signs: E error^2 = (|q|^2 |d|^2 + (q.d)^2 - 2 sum q_t^2 d_t^2) / D
    q, d = (side * np.sqrt(idf) for side in (queries, weights.toarray()))
    theory = np.sqrt((((q**2).sum(1)[:, None] * (d**2).sum(1)) + exact**2 - 2 * (q**2) @ (d**2).T).mean())
    assert scaled == pytest.approx([theory] * 4, rel=0.12)


def test_as_many_dimensions_as_documents_hold_bm25_exactly():
    weights, idf, frequencies = corpus()
    query_rows, document_rows = fit_rows(weights, idf, expected_demand(frequencies), 64, seed=1)
    assert query_rows.shape == document_rows.shape == (90, 64) and not query_rows[:, 60:].any()
    queries = np.random.default_rng(2).random((40, 90)) < 0.05
    found = vectors(queries, query_rows, idf) @ vectors(weights.toarray(), document_rows, idf).T
    assert np.abs(found - (queries * idf) @ weights.T.toarray()).max() < 2e-3
    assert (vectors(weights.toarray(), document_rows, idf) ** 2).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)


def test_fitted_vectors_span_the_best_directions_and_terms_count_fully_on_average():
    weights, idf, frequencies = corpus()
    counts = scipy.sparse.random(30, 90, density=0.06, format="csr", random_state=4)
    counts.data[:] = 1
    query_rows, document_rows = fit_rows(weights, idf, expected_demand(frequencies, counts), 12, seed=1)
    share = counts.toarray() * 90 / counts.sum()
    rule = np.sqrt(frequencies) * 90 / np.sqrt(frequencies).sum()
    moment = np.outer(idf, idf) * (np.diag(rule + share.sum(axis=0)) + counts.toarray().T @ share) / 3
    _, directions = np.linalg.eigh(weights.toarray() @ moment @ weights.toarray().T)
    best = directions[:, -12:]
    documents = vectors(weights.toarray(), document_rows, idf)
    spanned = documents @ np.linalg.pinv(documents)
    got = [np.trace(basis @ weights.toarray() @ moment @ weights.toarray().T) for basis in (spanned, best @ best.T)]
    assert np.trace(spanned) == pytest.approx(12) and 0.99 * got[1] < got[0] <= 1.00001 * got[1]
    alone = documents @ vectors(np.eye(90), query_rows, idf).T  # what each term alone gives each document
    energy = (weights.toarray() ** 2).sum(axis=0)
    assert (alone * weights.toarray()).sum(axis=0) == pytest.approx(idf * energy, rel=1e-2)


def test_documents_that_are_alike_leave_finite_rows():
    weights, idf, frequencies = corpus(20)
    twice = scipy.sparse.vstack([weights, weights]).tocsr()
    query_rows, document_rows = fit_rows(twice, idf, expected_demand(frequencies), 40, seed=1)
    assert np.isfinite(query_rows).all() and np.isfinite(document_rows).all()
    found = vectors(np.eye(90), query_rows, idf) @ vectors(twice.toarray(), document_rows, idf).T
    assert np.abs(found - (twice.toarray() * idf).T).max() < 5e-3


def test_queries_that_are_known_are_held_better():
    weights, idf, frequencies = corpus(200, 150)
    draw = np.random.default_rng(5)
    counts = scipy.sparse.csr_matrix((draw.random((60, 150)) < 0.04) * (np.arange(150) % 3 == 0)).astype(np.float64)
    counts = counts[np.diff(counts.indptr) > 0]
    exact = (counts.toarray() * idf) @ weights.T.toarray()
    errors = []
    for demand in (expected_demand(frequencies), expected_demand(frequencies, counts)):
        query_rows, document_rows = fit_rows(weights, idf, demand, 30, seed=1)
        found = vectors(counts.toarray(), query_rows, idf) @ vectors(weights.toarray(), document_rows, idf).T
        errors.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, exact, strict=True)]))
    assert errors[1] > errors[0] + 0.02


def test_counted_terms_and_their_padding():
    known = TermKeys()
    terms = count_terms([["a", "b", "a"], [], ["c"]], known)
    assert terms.keys.tolist() == [known["a"], known["b"], known["c"]] and terms.counts.tolist() == [2, 1, 1]
    assert terms.starts.tolist() == [0, 2, 2, 3] and terms.lengths.tolist() == [3, 0, 1]
    assert all(0 <= key < 2**63 for key in known.values())
    weighted = WeightedTerms(terms.keys, np.array([1.5, 2.5, 3.5], np.float32), terms.starts, 1)
    keys, weights = weighted.inputs([0, 1, 2])
    assert weights.tolist() == [[1.5, 2.5], [0, 0], [3.5, 0]] and keys[0].tolist() == [known["a"], known["b"]]
    assert torch.from_numpy(keys).dtype == torch.int64


def test_document_weights_are_bm25s():
    assert document_weights(np.array([3]), np.array([20]), 10.0, 0.9, 0.4) == pytest.approx(
        3 / (3 + 0.9 * (0.6 + 0.4 * 2))
    )
