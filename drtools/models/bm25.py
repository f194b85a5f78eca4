"""BM25 as Lucene computes it, in parts: the weights of document terms and query terms, and their statistics.

A score is the inner product of the two: sum over terms of [count in the query * idf] * [tf / (tf + k1 * (1 - b + b *
length / mean))]. Lucene leaves out the constant k1 + 1 since version 8.
"""

from __future__ import annotations

import numpy as np


def inverse_document_frequency(frequencies: np.ndarray, documents: int) -> np.ndarray:  # [T] -> float32 [T]
    """Return ln(1 + (N - df + 1/2) / (df + 1/2)), which is never negative (Robertson et al. 1995).

    `frequencies` are the numbers df of documents, out of N, that have each term.
    """
    return np.log1p((documents - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)


def length_in_one_byte(lengths: np.ndarray) -> np.ndarray:  # [N] -> int64 [N]
    """Return lengths in terms as Lucene stores them.

    Lengths below 40 are exact. Of longer ones, the part above 24 is cut to four significant bits.
    """
    beyond = np.maximum(
        np.asarray(lengths, np.int64) - 24, 0
    )  # 24: the number of one-byte codes that the longest length leaves free
    bits = np.frexp(beyond)[1]
    dropped = np.maximum(bits - 4, 0)
    return np.where(beyond == 0, lengths, 24 + (beyond >> dropped << dropped))


def document_weights(
    counts: np.ndarray, lengths: np.ndarray, mean_length: float, k1: float, b: float
) -> np.ndarray:  # [P], [P] -> float32 [P]
    """Return the saturated weight, without idf, of terms with `counts` occurrences in documents of given `lengths`."""
    norm = k1 * (1 - b + b * length_in_one_byte(lengths) / mean_length)
    return (counts / (counts + norm)).astype(np.float32)
