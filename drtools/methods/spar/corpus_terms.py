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

    Sorted `keys` [T] of all terms and their document `frequencies` [T], documents with a term, their mean length in
    terms.

    `sample` are the counted terms of the documents that were asked for.
    """

    keys: np.ndarray
    frequencies: np.ndarray
    documents: int
    mean_length: float
    sample: list[CountedTerms]


def count_corpus(
    texts: DocumentTexts, analyzer: Analyzer, known: TermKeys, sampled: np.ndarray, on_texts: Callable[[int], None]
) -> CorpusTerms:
    """Count the terms of every document, and keep those of the rows where `sampled` bool [N] is true."""
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
    """Sorted keys with how often each was added.

    Merged once as many wait as are known, so that a long corpus is not sorted at each chunk.
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
