"""Conversion of vectors from other programs into the files of a vectors folder: checked and copied block by block."""

from __future__ import annotations

import hashlib
from array import array as packed
from pathlib import Path

import numpy as np

from drtools.errors import InputError, param
from drtools.formats.ids import Ids
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import decode, local, read_lines, shown
from drtools.formats.npy import open_npy
from drtools.formats.vectors import IDS, find_not_finite

ROWS_A_BLOCK = 16384
LENGTH_TOLERANCE = 1e-2  # how far from 1 a normalized vector's length may be; float16 rounding stays far below


def open_foreign(path: str) -> np.ndarray:
    """Open an .npy file as a memory map [N, D] of float16, float32 or float64; InputError for anything else."""
    if Path(local(path)).is_dir():
        raise InputError("a folder was found where an .npy file was expected", where=path)
    array = open_npy(local(path), "write one array of numbers with numpy.save", name=shown(path))
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8 or 0 in array.shape:
        raise InputError(
            f"found {array.dtype} {list(array.shape)}",
            where=shown(path),
            expected="float16, float32 or float64 [rows, dimensions]",
            remedy="convert the array",
        )
    return array


def copy_ids(path: str, folder: Path) -> Ids:
    """Copy ids, one per line, into a vectors folder; raise InputError for an empty line or a duplicate id.

    Takes 24 bytes an id in memory.
    """
    hashes = packed("q")
    with open(folder / IDS, "wb") as stream:
        for number, line in read_lines(path):
            if number != len(hashes) + 1:
                raise InputError(
                    "the line is empty", where=f"{shown(path)}:{len(hashes) + 1}", expected="an id on each line"
                )
            row_id = checked_id(decode(line, path, number), path, number)
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
            raise InputError(
                f"the id {ids[second]!r} is also on line {first + 1}; ids must be unique",
                where=f"{shown(path)}:{second + 1}",
            )
    return ids


def copy_rows(path: str, array: np.ndarray, into: np.memmap, ids: Ids) -> int:
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
