"""Strings in one block of bytes, which may be a memory map: 8 bytes and its UTF-8 for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np

TEXTS_A_READ = 4096


class PackedTexts(Sequence[str]):
    """N strings. String i is flat[starts[i]:starts[i + 1]] (uint8; int64 [N + 1])."""

    def __init__(self, flat: np.ndarray, starts: np.ndarray) -> None:
        self.flat, self.starts = flat, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        return self.flat[self.starts[at] : self.starts[at + 1]].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), TEXTS_A_READ):
            starts = self.starts[first : first + TEXTS_A_READ + 1]
            block, places = self.flat[starts[0] : starts[-1]].tobytes(), (starts - starts[0]).tolist()
            for start, stop in pairwise(places):
                yield block[start:stop].decode("utf-8", "surrogatepass")
