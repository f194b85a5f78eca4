"""Batches of texts of similar length, limited by a number of tokens instead of texts, with little padding."""

from collections.abc import Iterator

import numpy as np


def batches_by_length(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:  # [N] -> rows [B] at a time
    """Yield rows, longest texts first. A batch has at least one row, and rows x longest is at most `batch_tokens`."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


def batches_of_one_length(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:  # [N] -> rows [B] at a time
    """Yield rows whose texts have the same length, longest texts first, within `batch_tokens` (at least one row).

    There is no padding.
    """
    order = np.argsort(-lengths, kind="stable")
    firsts = np.flatnonzero(np.diff(lengths[order], prepend=-1))
    for same in np.split(order, firsts)[1:]:
        count = max(1, batch_tokens // max(1, int(lengths[same[0]])))
        yield from (same[start : start + count] for start in range(0, len(same), count))
