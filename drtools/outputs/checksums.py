"""Checksums of the bytes that unfinished work has written, so that a later process notices if they changed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

from drtools.errors import InputError, param

BLOCK = 1 << 20


class Span(NamedTuple):
    """The bytes of a file that do not change any more: from `first`, up to `last` (None: to its end)."""

    first: int
    last: int | None


class _Bytes(TypedDict):
    first: int
    last: int
    crc32: int


class Checksum(_Bytes, total=False):
    """CRC-32 of bytes `first` to `last` of a file. If `whole`, the file ends there and does not grow any more."""

    whole: bool


class Checksums:
    """Checksums of files below a folder, by name. Bytes are read once while a file grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, Checksum] = {}
        self.seen: dict[str, tuple[int, int, int]] = {}  # inode, size and time of a complete file when it was read

    def of(self, spans: Mapping[str, Span]) -> dict[str, Checksum]:
        """Return the checksums of these spans, which later calls extend."""
        self.known = {name: self._of_span(name, span) for name, span in spans.items()}
        return self.known

    def _of_span(self, name: str, span: Span) -> Checksum:
        path, known = self.folder / name, self.known.get(name)
        found = path.stat()
        looks = (found.st_ino, found.st_size, found.st_mtime_ns)
        last = found.st_size if span.last is None else span.last
        grows = known is not None and known["first"] == span.first and known["last"] <= last
        if span.last is None:
            grows = grows and self.seen.get(name) == looks
            self.seen[name] = looks
        first, crc = (known["last"], known["crc32"]) if known is not None and grows else (span.first, 0)
        sum_of_bytes: Checksum = {"first": span.first, "last": last, "crc32": _crc32(path, first, last, crc)}
        return {**sum_of_bytes, "whole": True} if span.last is None else sum_of_bytes

    def compare(self, recorded: Mapping[str, Checksum]) -> None:
        """Raise InputError if bytes are not those that were recorded; otherwise continue from these checksums."""
        for name, known in recorded.items():
            path = self.folder / name
            try:
                ends = not known.get("whole") or path.stat().st_size == known["last"]
                same = ends and _crc32(path, known["first"], known["last"], 0) == known["crc32"]
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
                same = False
            if not same:
                raise InputError(
                    "its content changed after it was written; the disk or another program damaged it",
                    where=path,
                    remedy=f"use {param('overwrite')} to start afresh",
                )
        self.known = dict(recorded)


def _crc32(path: Path, first: int, last: int, crc: int) -> int:
    """Return the CRC-32 of bytes `first` to `last`, continued from that of the bytes before; -1 if some are missing."""
    with open(path, "rb", buffering=0) as stream:
        if not 0 <= first <= last <= os.fstat(stream.fileno()).st_size:
            return -1
        stream.seek(first)
        left = last - first
        while left:
            block = stream.read(min(BLOCK, left))
            if not block:
                return -1
            crc = zlib.crc32(block, crc)
            left -= len(block)
    return crc
