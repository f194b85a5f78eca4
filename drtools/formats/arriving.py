"""Queries that arrive on standard input one by one: each is answered before the next is written."""

from __future__ import annotations

import select
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from io import BufferedReader, UnsupportedOperation
from itertools import chain
from typing import cast

from drtools.errors import InputError
from drtools.formats.corpora import QUERIES_EXPECTED, looks_like_json, queries_of, twice
from drtools.formats.lines import LONGEST_LINE, shown
from drtools.formats.signatures import refuse_other_formats

CHUNK = 1 << 16
GZIP = b"\x1f\x8b"
INPUT = "-"


class Arriving:
    """Lines of a stream, and whether a further one is already there."""

    def __init__(self, stream: BufferedReader) -> None:
        self.stream = stream
        self.held, self.number, self.begun, self.ended = b"", 0, False, False
        self.unpack: zlib._Decompress | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number from 1, line without its end), also blank lines; wait for each."""
        while True:
            end = self.held.find(b"\n")
            if end < 0 and not self.ended:
                self._read()
                continue
            if end < 0 and not self.held:
                return
            line, self.held = (self.held, b"") if end < 0 else (self.held[:end], self.held[end + 1 :])
            self.number += 1
            if self.number == 1:
                line = line.removeprefix(BOM_UTF8)
                refuse_other_formats(line, shown(INPUT))
            yield self.number, line.rstrip(b"\r")

    def is_there(self) -> bool:
        """Return whether a line with content can be read without waiting."""
        while not self.ended and not _has_line(self.held) and _has_bytes(self.stream):
            self._read()
        return _has_line(self.held) or (self.ended and bool(self.held.strip()))

    def _read(self) -> None:
        chunk = self.stream.read1(CHUNK)  # more than the stream holds itself, so that `select` sees all others
        if not self.begun:
            while chunk and chunk == GZIP[: len(chunk)] != GZIP and (more := self.stream.read1(CHUNK)):
                chunk += more
            self.begun = True
            self.unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if chunk.startswith(GZIP) else None
        self.ended = not chunk
        try:
            self.held += self._unpacked(chunk)
        except zlib.error as error:
            raise InputError(f"the gzip stream is damaged ({error})", where=shown(INPUT)) from None
        if len(self.held) > LONGEST_LINE and b"\n" not in self.held:
            raise InputError(
                f"the line is longer than {LONGEST_LINE:,} bytes", where=f"{shown(INPUT)}:{self.number + 1}"
            )

    def _unpacked(self, chunk: bytes) -> bytes:
        if self.unpack is None:
            return chunk
        if not chunk and not self.unpack.eof:
            raise zlib.error("it is cut short")
        content = b""
        while chunk:
            if self.unpack.eof:  # a further member
                self.unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
            content += self.unpack.decompress(chunk)
            chunk = self.unpack.unused_data
        return content


def _has_bytes(stream: BufferedReader) -> bool:
    """Return whether reading does not wait."""
    try:
        return bool(select.select([stream.fileno()], [], [], 0)[0])
    except UnsupportedOperation:  # bytes in memory
        return True


def _has_line(held: bytes) -> bool:
    return b"\n" in held.lstrip()


def arriving_queries(most: int, stream: BufferedReader | None = None) -> Iterator[list[tuple[str, str]]]:
    """Yield the next (query id, text) and up to `most` in all that are already there, until the stream ends.

    Raises InputError as `read_queries` does.
    """
    arriving = Arriving(cast(BufferedReader, sys.stdin.buffer) if stream is None else stream)
    lines = iter(arriving)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        raise InputError("no queries", where=shown(INPUT), expected=QUERIES_EXPECTED)
    is_json = looks_like_json(first[1])
    given = ((number, line) for number, line in chain([first], lines) if not is_json or line.strip())
    seen: dict[str, int] = {}
    waiting: list[tuple[str, str]] = []
    for number, query_id, text in queries_of(given, is_json, INPUT):
        if query_id in seen:
            raise twice("query", query_id, seen[query_id], number, INPUT)
        seen[query_id] = number
        waiting.append((query_id, text))
        if len(waiting) == most or not arriving.is_there():
            yield waiting
            waiting = []
    if waiting:
        yield waiting
