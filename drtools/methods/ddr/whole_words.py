"""Words as numbers of their tokens, in memory and in files, and masking that draws whole words."""

from __future__ import annotations

import numpy as np

CONTINUES, BEGINS, SPECIAL = range(3)


def drawn_by_word(words: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:  # -> float32 [T]
    """Draw for each word whether it is predicted, and for each of its tokens how it is masked.

    Returns uniform numbers from 0 to `share` for predicted tokens, and 1 for all others.
    """
    places = _places(words)
    chosen = random.random(places.max(initial=-1) + 1, np.float32)[places] < share
    kinds = random.random(len(words), np.float32) * np.float32(share)
    return np.where(chosen, np.minimum(kinds, np.nextafter(np.float32(share), np.float32(0))), np.float32(1))


def _places(words: np.ndarray) -> np.ndarray:
    """Return the rank of each token's word among the words of a text, whose numbers ascend but for special tokens."""
    if len(words) and words.min() < 0:
        return np.unique(words, return_inverse=True)[1]
    return np.cumsum(np.diff(words, prepend=words[:1]) != 0)


def numbers_of(kinds: np.ndarray) -> np.ndarray:
    """Return the number of each token's word, in ascending order. A special token is a word with a number below 0."""
    numbers: np.ndarray = np.cumsum(kinds == BEGINS, dtype=np.int64)
    return np.where(kinds == SPECIAL, -1 - np.arange(len(kinds)), numbers)


def kinds_of(numbers: np.ndarray) -> np.ndarray:
    """Return what `numbers_of` needs, from the numbers of words."""
    kinds = np.full(len(numbers), SPECIAL, np.uint8)
    (own,) = np.nonzero(numbers >= 0)
    changes = np.diff(numbers[own], prepend=-1) != 0
    kinds[own] = np.where(changes, BEGINS, CONTINUES)
    return kinds
