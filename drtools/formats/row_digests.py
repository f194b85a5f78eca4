"""Digests of the content of rows, 16 bytes per row, by which an update finds the rows that it can reuse.

A vectors folder has texts.npy [N]: of each row's text its digest, its tokens, whether it was cut, whether it was empty.
An index has digests.npy [N, 16]: of each row's id and vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from drtools.errors import InputError, param
from drtools.formats.npy import create_npy, open_npy
from drtools.outputs.state_file import START_AFRESH

TEXTS, DIGESTS = "texts.npy", "digests.npy"
DIGEST_BYTES = 16
DAMAGED = "the folder was damaged, make it again"
TEXT = [("digest", "u1", (DIGEST_BYTES,)), ("tokens", "<u4"), ("cut", "?"), ("empty", "?")]


def digests_of_texts(texts: Sequence[str]) -> np.ndarray:
    """Return BLAKE2b of texts as an encoder is given them, uint8 [N, 16]; the prompt and the encoder are not in it."""
    return _as_rows(text.encode("utf-8", "surrogatepass") for text in texts)


def digests_of_rows(ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """Return BLAKE2b of ids with their vectors [N, D] in their own numbers, uint8 [N, 16]; unique, because ids are."""
    return _as_rows(
        row_id.encode() + b"\n" + vector.tobytes()
        for row_id, vector in zip(ids, np.ascontiguousarray(vectors), strict=True)
    )


def _as_rows(contents: Iterable[bytes]) -> np.ndarray:
    joined = b"".join(hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() for content in contents)
    return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES)


def create_texts(folder: Path, count: int) -> None:
    """Create texts.npy for `count` rows, to be filled through a memory map."""
    create_npy(folder / TEXTS, np.dtype(TEXT), (count,))


def open_texts(folder: Path, mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Open texts.npy as a memory map."""
    array = _open(folder / TEXTS, mode)
    if array.ndim != 1 or array.dtype != TEXT:
        raise InputError("found other rows than digests of texts", where=folder / TEXTS, remedy=DAMAGED)
    return array


def open_digests(folder: Path, count: int) -> np.memmap:
    """Open an index's digests uint8 [count, 16] as a memory map."""
    array = _open(folder / DIGESTS, "r")
    if array.shape != (count, DIGEST_BYTES) or array.dtype.name != "uint8":
        raise InputError(
            f"found {array.dtype} {list(array.shape)}",
            where=folder / DIGESTS,
            expected=f"uint8 [{count}, {DIGEST_BYTES}]",
            remedy=DAMAGED,
        )
    return array


def _open(path: Path, mode: Literal["r", "r+"]) -> np.memmap:
    if not path.exists():
        raise InputError(
            f"has no {path.name}, the digests of its rows (an older version did not write them)",
            where=path.parent,
            remedy=f"make the folder once without {param('update')}, then update the new one",
        )
    return open_npy(path, START_AFRESH if mode == "r+" else DAMAGED, mode)


class RowsByDigest:
    """Finds rows by their digests uint8 [N, 16], which may be in a file. Takes 16 bytes per row."""

    def __init__(self, digests: np.ndarray) -> None:
        self.digests = digests
        keys = _keys(digests)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def find(self, digests: np.ndarray) -> np.ndarray:  # uint8 [M, 16] -> int64 [M]
        """Return the first row of each digest, -1 where there is none."""
        keys, found = _keys(digests), np.full(len(digests), -1, np.int64)
        at, left = np.searchsorted(self.keys, keys), np.arange(len(digests))
        while len(left):  # once round but where two digests begin with the same 8 bytes
            left = left[at[left] < len(self.keys)]
            left = left[self.keys[at[left]] == keys[left]]
            rows = self.order[at[left]]
            same = (self.digests[rows] == digests[left]).all(axis=1)
            found[left[same]] = rows[same]
            left = left[~same]
            at[left] += 1
        return found


def _keys(digests: np.ndarray) -> np.ndarray:
    """Return the first 8 bytes of each digest as a number."""
    return np.ascontiguousarray(digests[:, :8]).view("<u8").ravel()
