"""Terms of texts by Lucene's analyzers, and the statistics of a corpus for BM25."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.models.analyzer import Analyzer
from drtools.models.terms import CountedTerms, TermKeys, count_terms

if TYPE_CHECKING:
    from drtools.formats.text_sources import DocumentTexts

DOCUMENTS_A_CHUNK = 4096
KEYS_A_MERGE = 1_000_000


class CorpusTerms(NamedTuple):
    """The statistics of a corpus for BM25.

    They are the sorted `keys` [T] of all terms, their document `frequencies` [T], the number of documents with a term,
    and the mean length of these in terms. `sample` has the counted terms of sampled documents.
    """

    keys: np.ndarray
    frequencies: np.ndarray
    documents: int
    mean_length: float
    sample: list[CountedTerms]


def count_corpus(
    texts: DocumentTexts, analyzer: Analyzer, known: TermKeys, sampled: np.ndarray, on_texts: Callable[[int], None]
) -> CorpusTerms:
    """Count the terms of all documents, and keep those of rows where `sampled` bool [N] is true."""
    from drtools.models.long_texts import batches_of

    frequencies = _Frequencies()
    documents = length = 0
    sample = []
    for start in range(0, len(texts), DOCUMENTS_A_CHUNK):
        row = start
        for part in batches_of(texts.slice(start, start + DOCUMENTS_A_CHUNK)[1]):
            lists = analyzer(part)
            terms = count_terms(lists, known)
            frequencies.add(terms.keys)
            documents += int((terms.lengths > 0).sum())
            length += int(terms.lengths.sum())
            kept = [lists[at] for at in np.flatnonzero(sampled[row : row + len(lists)]) if lists[at]]
            if kept:
                sample.append(count_terms(kept, known))
            row += len(lists)
            on_texts(len(lists))
    frequencies.merge()
    return CorpusTerms(frequencies.keys, frequencies.counts, documents, length / max(1, documents), sample)


class _Frequencies:
    """Sorted keys with their counts.

    New keys are merged when there are as many as known ones, so that a long corpus is not sorted after each chunk.
    """

    def __init__(self) -> None:
        self.keys, self.counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self.waiting: list[np.ndarray] = []

    def add(self, keys: np.ndarray) -> None:
        self.waiting.append(keys)
        if sum(map(len, self.waiting)) > max(KEYS_A_MERGE, len(self.keys)):
            self.merge()

    def merge(self) -> None:
        every, places = np.unique(np.concatenate([self.keys, *self.waiting]), return_inverse=True)
        new = np.bincount(places[len(self.keys) :], minlength=len(every))
        new[places[: len(self.keys)]] += self.counts
        self.keys, self.counts, self.waiting = every, new, []
