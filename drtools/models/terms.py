"""Turn texts into weighted terms, the tokens of a lexical encoder.

A term is identified by a hash of 63 bits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from drtools.models.long_texts import batches_of
from drtools.models.tokens import Rows, pad


class TermKeys(dict[str, int]):
    """The keys of terms that were seen.

    A key is 63 bits of the term's hash, so that no list of terms is needed and no term is unknown.
    """

    def __missing__(self, term: str) -> int:
        key = (
            int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
            >> 1
        )
        self[term] = key
        return key


class CountedTerms(NamedTuple):
    """The distinct terms of N texts. Text i has keys[starts[i]:starts[i + 1]], and `counts` has their frequencies.

    `lengths` [N] includes repetitions.
    """

    keys: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


class WeightedTerms(NamedTuple):
    """Terms int64 [total] and their weights float32 [total], used in place of `Tokens`.

    Text i has those from starts[i] to starts[i + 1].
    """

    flat: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    blank: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """The number of distinct terms of each text [N]."""
        return np.diff(self.starts)

    @property
    def cut(self) -> np.ndarray:
        """Which texts were cut, bool [N]: none."""
        return np.zeros(len(self.blank), bool)

    @property
    def backward(self) -> bool:
        """Whether a training step backpropagates through the body for them."""
        return True

    @property
    def truncated(self) -> int:
        """The number of texts that were cut."""
        return 0

    @property
    def empty(self) -> int:
        """The number of texts without a term."""
        return int(self.blank.sum())

    def inputs(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return (keys int64 [B, T], weights float32 [B, T]) of some rows. Padding has weight 0."""
        return pad(self.flat, self.starts, rows, 0), pad(self.weights, self.starts, rows, 0, np.float32)


TermLists = Callable[[Sequence[str]], list[list[str]]]  # an analyzer: texts -> lists of terms


def count_by_part(analyzer: TermLists, texts: Sequence[str], known: Mapping[str, int]) -> CountedTerms:
    """Count the terms of texts, in batches that need little memory."""
    parts = [count_terms(analyzer(part), known) for part in batches_of(texts)] or [count_terms([], known)]
    ends = np.cumsum([0, *(len(part.keys) for part in parts)])
    starts = [part.starts[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
    return CountedTerms(
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([*starts, ends[-1:]]),
        np.concatenate([part.lengths for part in parts]),
    )


def count_terms(texts: Sequence[Sequence[str]], known: Mapping[str, int]) -> CountedTerms:
    """Count the terms of each text. `known` is a TermKeys, which keeps keys between calls."""
    counted = [Counter(terms) for terms in texts]
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(counts) for counts in counted], out=starts[1:])
    total = int(starts[-1])
    keys = np.fromiter((known[term] for counts in counted for term in counts), np.int64, total)
    counts = np.fromiter((count for counts in counted for count in counts.values()), np.int64, total)
    return CountedTerms(keys, counts, starts, np.fromiter(map(len, texts), np.int64, len(texts)))
