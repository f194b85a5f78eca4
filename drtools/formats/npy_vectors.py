"""Conversion of vectors from other programs into the files of a vectors folder: checked and copied block by block."""

from __future__ import annotations

import hashlib
from array import array as packed
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from drtools.errors import InputError, param
from drtools.formats.ids import Ids
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import decode, read_lines, shown, unpacked
from drtools.formats.npy import SIGNATURE, open_npy
from drtools.formats.vectors import IDS, find_not_finite

ROWS_A_BLOCK = 16384
LENGTH_TOLERANCE = 1e-2  # how far from 1 a normalized vector's length may be; float16 rounding stays far below


class Rows(Protocol):
    """Vectors [N, D], read a slice of rows at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Their number and their dimension."""

    @property
    def dtype(self) -> np.dtype:
        """The type of their numbers."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


def open_array(path: str) -> np.ndarray:
    """Open an .npy file as a memory map [N, D] of float16, float32 or float64; InputError for anything else."""
    advice = f"write one array of numbers with numpy.save, or use {param('columns')} for a file of numbers alone"
    array = open_npy(unpacked(path, SIGNATURE), advice, name=shown(path))
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8 or 0 in array.shape:
        raise InputError(
            f"found {array.dtype} {list(array.shape)}",
            where=shown(path),
            expected="float16, float32 or float64 [rows, dimensions]",
            remedy="convert the array",
        )
    return array


class IdSource(NamedTuple):
    """Ids of rows in their order, from a file of a name, and what the file calls a row: a line, or a row."""

    name: str
    word: str
    ids: Iterable[object]

    def place(self, number: int) -> str:
        """Return where the id of a number, counted from 1, stands."""
        return f"{self.name}:{number}" if self.word == "line" else f"{self.name}: row {number - 1} (counted from 0)"


def text_ids(path: str) -> IdSource:
    """Return the ids of a text file, one for each line; InputError, when they are read, for an empty line."""
    return IdSource(shown(path), "line", _lines(path))


def _lines(path: str) -> Iterator[str]:
    for count, (number, line) in enumerate(read_lines(path), start=1):
        if number != count:
            raise InputError("the line is empty", where=f"{shown(path)}:{count}", expected="an id on each line")
        yield decode(line, path, number)


def copy_ids(source: IdSource, folder: Path) -> Ids:
    """Write ids into a vectors folder; raise InputError for one that is none, or that stands there twice.

    Takes 24 bytes an id in memory.
    """
    hashes = packed("q")
    with open(folder / IDS, "wb") as stream:
        for number, value in enumerate(source.ids, start=1):
            row_id = checked_id(value, source.name, number)
            hashes.append(
                int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=8).digest(), "little", signed=True)
            )
            stream.write(f"{row_id}\n".encode())
    ids = Ids(folder / IDS)
    order = np.argsort(hashes, kind="stable")
    ordered = np.frombuffer(hashes, np.int64)[order]
    for place in np.flatnonzero(ordered[1:] == ordered[:-1]):
        first, second = int(order[place]), int(order[place + 1])
        if ids[first] == ids[second]:
            also = f"line {first + 1}" if source.word == "line" else f"row {first}"
            raise InputError(
                f"the id {ids[second]!r} is also on {also}; ids must be unique", where=source.place(second + 1)
            )
    return ids


def copy_rows(path: str, array: Rows, into: np.memmap, ids: Ids) -> int:
    """Copy [N, D] into an array of float16 or float32; return how many rows have a length of 1, within 1e-2.

    Raises InputError, with the row and its id, for what is not a finite number before or after.
    """
    of_length_one = 0
    for start in range(0, len(array), ROWS_A_BLOCK):
        block = np.asarray(array[start : start + ROWS_A_BLOCK])
        bad = find_not_finite(block)
        if bad is not None:
            raise InputError(
                f"row {start + bad} (counted from 0, id {ids[start + bad]!r}) holds NaN or infinity",
                where=shown(path),
                remedy="encode that text again, or leave it out",
            )
        with np.errstate(over="ignore"):
            narrowed = block.astype(into.dtype)
        bad = find_not_finite(narrowed)
        if bad is not None:
            raise InputError(
                f"row {start + bad} (counted from 0, id {ids[start + bad]!r}) holds a number beyond {into.dtype}",
                where=shown(path),
                remedy=f"use a wider {param('dtype')}, or scale the vectors",
            )
        into[start : start + ROWS_A_BLOCK] = narrowed
        lengths = np.linalg.norm(narrowed.astype(np.float32), axis=1)
        of_length_one += int((np.abs(lengths - 1) <= LENGTH_TOLERANCE).sum())
    into.flush()
    return of_length_one
