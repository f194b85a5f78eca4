"""Vectors of documents' pieces in a vectors folder: one array for all, and the start of each document's pieces.

pieces.npy [T, D] holds each document's passages, then its sentences. piece_starts.npy int64 [2N + 1]: document i's
passages are rows starts[2i] to starts[2i + 1], its sentences starts[2i + 1] to starts[2i + 2]; a document of one piece
stores it only as a passage.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from drtools.errors import InputError, param
from drtools.formats.npy import open_npy, span_of_rows
from drtools.formats.vectors import open_array
from drtools.outputs.checksums import Span
from drtools.outputs.state_file import START_AFRESH
from drtools.units import counted

if TYPE_CHECKING:
    import numpy as np

PIECES, STARTS = "pieces.npy", "piece_starts.npy"
DOCUMENTS_AT_ONCE = 4096  # whose pieces are in memory together


class PieceVectors(NamedTuple):
    """Pieces of N documents: `array` [T, D] (a memory map) and `starts` int64 [2N + 1]."""

    array: np.ndarray
    starts: np.ndarray

    def take(self, rows: np.ndarray) -> PieceVectors:  # int [C]
        """Return the pieces of some documents in that order, read into memory."""
        import numpy as np

        first, middle, end = (self.starts[2 * rows + step] for step in range(3))
        starts = starts_of(middle - first, end - middle)
        at = np.repeat(first - starts[:-1:2], end - first) + np.arange(starts[-1])
        return PieceVectors(np.asarray(self.array[at]), starts)

    def best(self, rows: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the scores of each document's best passage and best sentence, and which documents have pieces.

        rows int [C], query float32 [D]; returned are [C], [C] and bool [C]. Where the one passage is the one sentence
        it counts as both; without pieces both are 0.
        """
        import numpy as np

        if len(rows) > DOCUMENTS_AT_ONCE:
            parts = [
                self.best(rows[start : start + DOCUMENTS_AT_ONCE], query)
                for start in range(0, len(rows), DOCUMENTS_AT_ONCE)
            ]
            passages, sentences, there = (np.concatenate(part) for part in zip(*parts, strict=True))
            return passages, sentences, there
        array, starts = self.take(rows)
        first, middle, end = starts[:-1:2], starts[1::2], starts[2::2]
        there = end > first
        best = np.zeros((2, len(rows)), np.float32)
        if there.any():
            scores, counts, at = np.asarray(array, np.float32) @ query, end - first, np.arange(len(array))
            sentences = np.where(middle < end, middle, first)  # a document without sentences uses its passage
            best[0, there] = np.maximum.reduceat(
                np.where(at < np.repeat(middle, counts), scores, -np.inf), first[there]
            )
            best[1, there] = np.maximum.reduceat(
                np.where(at >= np.repeat(sentences, counts), scores, -np.inf), first[there]
            )
        return best[0], best[1], there


def starts_of(passages: np.ndarray, sentences: np.ndarray) -> np.ndarray:  # [N] twice -> int64 [2N + 1]
    """Return the starts of documents' pieces from the numbers of passages and sentences of each document."""
    import numpy as np

    return np.concatenate([[0], np.cumsum(np.stack([passages, sentences], axis=1))])


def joined(parts: Sequence[PieceVectors]) -> PieceVectors:
    """Return the pieces of the documents of each part, one part after the other."""
    import numpy as np

    ends = np.cumsum([0, *(len(part.array) for part in parts)])
    return PieceVectors(
        np.concatenate([part.array for part in parts]),
        np.concatenate([[0], *(part.starts[1:] + end for part, end in zip(parts, ends, strict=False))]),
    )


def open_pieces(folder: Path, count: int) -> PieceVectors:
    """Open the pieces of a vectors folder of `count` documents."""
    import numpy as np

    if not (folder / PIECES).exists():
        raise InputError(
            "holds no vectors of pieces", where=folder, remedy=f"make it with `drtools encode {param('pieces')}`"
        )
    array, starts = open_array(folder / PIECES), open_npy(folder / STARTS, "the folder was damaged, make it again")
    fits = starts.shape == (2 * count + 1,) and starts.dtype == np.int64
    if not fits or starts[0] != 0 or starts[-1] != len(array) or (np.diff(starts) < 0).any():
        raise InputError(
            f"{counted(len(array), 'vector')} of pieces do not fit {counted(count, 'document')}; the "
            "folder was damaged, make it again",
            where=folder,
        )
    return PieceVectors(array, starts)


class PieceWriter:
    """Writes pieces document by document; `done` documents with `written` pieces are there already."""

    def __init__(self, folder: Path, count: int, dimension: int, dtype: str, done: int = 0, written: int = 0) -> None:
        import numpy as np

        self.path, self.dimension, self.dtype, self.done, self.written = (
            folder / PIECES,
            dimension,
            np.dtype(dtype),
            done,
            written,
        )
        if not done:
            np.save(folder / STARTS, np.zeros(2 * count + 1, np.int64))
            with open(self.path, "wb") as stream:
                self._write_header(stream)
        self.starts = open_npy(folder / STARTS, START_AFRESH, "r+")
        if self.starts.dtype != np.int64 or self.starts.shape != (2 * count + 1,):
            raise InputError(
                f"found {self.starts.dtype} {list(self.starts.shape)}",
                where=folder / STARTS,
                expected=f"int64 [{2 * count + 1}]",
                remedy=START_AFRESH,
            )
        self.stream = open(self.path, "r+b")  # noqa: SIM115 closed by finish
        self._write_header(self.stream)
        self.header_bytes = self.stream.tell()
        self.stream.truncate(self.header_bytes + written * dimension * self.dtype.itemsize)
        self.stream.seek(0, os.SEEK_END)

    def _write_header(self, stream: BinaryIO) -> None:
        """Write the header of an array of `written` rows: numpy leaves room for that number to grow."""
        import numpy as np

        np.lib.format.write_array_header_1_0(
            stream,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self.written, self.dimension),
            },
        )

    def add(self, pieces: PieceVectors) -> None:
        """Append the pieces of documents; they are on the disk on return."""
        import numpy as np

        assert len(pieces.array) == pieces.starts[-1]
        documents = len(pieces.starts) // 2
        self.starts[2 * self.done + 1 : 2 * (self.done + documents) + 1] = self.written + pieces.starts[1:]
        self.starts.flush()
        self.stream.write(np.ascontiguousarray(pieces.array, self.dtype).tobytes())
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.done += documents
        self.written += len(pieces.array)

    def spans(self) -> dict[str, Span]:
        """Return the bytes that do not change any more. The header of the pieces is written again at the end."""
        return {
            STARTS: span_of_rows(self.starts, 2 * self.done + 1),
            PIECES: Span(self.header_bytes, self.stream.tell()),
        }

    def finish(self) -> None:
        """Write the number of pieces; it is on the disk on return."""
        self.stream.seek(0)
        self._write_header(self.stream)
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
