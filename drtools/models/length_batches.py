"""Batches of texts of like length, filled to a budget of tokens and not to a count, so that little is padding."""

from collections.abc import Iterator

import numpy as np


def batches_by_length(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:  # [N] -> rows [B] at a time
    """Yield rows, longest texts first, so many that rows x longest stays within `batch_tokens` (at least one row)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


def batches_of_one_length(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:  # [N] -> rows [B] at a time
    """Yield rows whose texts have the same length, longest texts first, within `batch_tokens` (one row at the least).

    Nothing is padding.
    """
    order = np.argsort(-lengths, kind="stable")
    firsts = np.flatnonzero(np.diff(lengths[order], prepend=-1))
    for same in np.split(order, firsts)[1:]:
        count = max(1, batch_tokens // max(1, int(lengths[same[0]])))
        yield from (same[start : start + count] for start in range(0, len(same), count))
