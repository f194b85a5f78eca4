"""Fit the rows of a static lexical encoder to the counted terms of a corpus and of queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from drtools.errors import InputError, param
from drtools.methods.spar.static_rows import expected_demand, fit_rows
from drtools.models.bm25 import document_weights, inverse_document_frequency

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from drtools.methods.spar.corpus_terms import CorpusTerms
    from drtools.models.terms import CountedTerms


def fit_to_corpus(
    corpus: CorpusTerms,
    queries: Sequence[CountedTerms] | None,
    dimension: int,
    bm25: tuple[float, float],
    most_terms: int,
    seed: int,
    on_pass: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Return `row_keys` [R], `query_rows` and `document_rows` float16 [R, D] of the sampled documents' terms.

    `bm25` is (k1, b). If there are more than `most_terms` terms, those that add most to the expected scores have rows.
    """
    if not corpus.sample:
        raise InputError("none of the documents to fit to has a term", remedy=f"use more {param('fit_documents')}")
    counts, lengths = _matrix(corpus.sample, corpus.keys)
    counts.data = document_weights(counts.data, np.repeat(lengths, np.diff(counts.indptr)), corpus.mean_length, *bm25)
    idf = inverse_document_frequency(corpus.frequencies, corpus.documents)
    asked = None if queries is None else _matrix(queries, corpus.keys)[0]
    energy = np.asarray(counts.multiply(counts).sum(axis=0)).ravel()
    worth = expected_demand(corpus.frequencies, asked).alone * idf**2 * energy
    chosen = np.sort(np.argsort(-worth, kind="stable")[: min(most_terms, int((energy > 0).sum()))])
    demand = expected_demand(corpus.frequencies[chosen], None if asked is None else asked[:, chosen])
    query_rows, document_rows = fit_rows(counts[:, chosen], idf[chosen], demand, dimension, seed, on_pass)
    return {
        "row_keys": corpus.keys[chosen],
        "query_rows": query_rows.astype(np.float16),
        "document_rows": document_rows.astype(np.float16),
    }


def _matrix(parts: Sequence[CountedTerms], keys: np.ndarray) -> tuple[csr_matrix, np.ndarray]:
    """Return the counts [N, T] of sorted keys in texts, without other terms, and the lengths [N] of the texts."""
    from scipy.sparse import csr_matrix

    terms, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("keys", "counts"))
    rows = np.repeat(
        np.arange(sum(len(part.lengths) for part in parts)), np.concatenate([np.diff(part.starts) for part in parts])
    )
    columns = np.minimum(np.searchsorted(keys, terms), len(keys) - 1)
    held = keys[columns] == terms
    lengths = np.concatenate([part.lengths for part in parts])
    return csr_matrix(
        (counts[held].astype(np.float32), (rows[held], columns[held])), (len(lengths), len(keys))
    ), lengths
