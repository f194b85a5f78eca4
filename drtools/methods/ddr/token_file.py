"""The tokens of a corpus in files that are mapped into memory, so that windows are cut without tokenizing again.

An epoch over windows visits a document many times. Its windows are counted before the training, which tokenizes the
whole corpus once; the tokens are kept then. A token takes 2 bytes (4 for vocabularies above 65,536), and 1 byte more
for whole words: whether it continues a word, begins one, or is a special token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drtools.formats.npy import open_npy
from drtools.methods.ddr.whole_words import numbers_of
from drtools.outputs.state_file import START_AFRESH

IDS, KINDS, STARTS = "ids.bin", "kinds.bin", "starts.npy"


@dataclass(frozen=True)
class TextTokens:
    """Tokens int32 [T] of each of N texts, and for whole words the number of each token's word."""

    ids: list[np.ndarray]
    words: list[np.ndarray] | None

    def lengths(self) -> list[int]:
        """Return the number of tokens of each text."""
        return [len(ids) for ids in self.ids]

    def cut(self, at: int, part: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Return tokens int32 of a part of a text, and for whole words the number of each token's word."""
        return np.array(self.ids[at][part], np.int32), None if self.words is None else self.words[at][part]


class TokenFile(NamedTuple):
    """Tokens of N documents: `ids` [total], `kinds` uint8 [total] for whole words, `starts` int64 [N + 1]."""

    ids: np.ndarray
    kinds: np.ndarray | None
    starts: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> TokenFile | None:
        """Map the files of a folder; return None if they were not all written, or hold nothing."""
        if not (folder / STARTS).exists():  # which is written last
            return None
        starts = open_npy(folder / STARTS, START_AFRESH)
        total = int(starts[-1])
        bytes_each = (folder / IDS).stat().st_size // max(1, total)
        if not total:
            return None
        ids = np.memmap(folder / IDS, np.uint16 if bytes_each == 2 else np.uint32, "r")
        kinds = np.memmap(folder / KINDS, np.uint8, "r") if (folder / KINDS).exists() else None
        # as plain arrays, since a memmap takes far longer to slice
        return cls(np.asarray(ids), None if kinds is None else np.asarray(kinds), starts)

    def read(self, rows: Sequence[int]) -> FileTokens:
        """Return the tokens of some documents."""
        return FileTokens(self, rows)


@dataclass(frozen=True)
class FileTokens:
    """The tokens of some documents; only what is cut is read."""

    file: TokenFile
    rows: Sequence[int]

    def lengths(self) -> list[int]:
        """Return the number of tokens of each document."""
        return [int(self.file.starts[row + 1] - self.file.starts[row]) for row in self.rows]

    def cut(self, at: int, part: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Return tokens int32 of a part of a document, and for whole words the number of each token's word."""
        first, end = self.file.starts[self.rows[at] : self.rows[at] + 2]
        there = slice(int(first) + part.start, min(int(end), int(first) + part.stop))
        ids = self.file.ids[there].astype(np.int32)
        return ids, None if self.file.kinds is None else numbers_of(self.file.kinds[there])


KeptTokens = TextTokens | FileTokens
