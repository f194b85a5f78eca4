"""Lines of text files: plain, through gzip, or from standard input."""

import atexit
import gzip
import shutil
import sys
import tempfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from functools import cache
from io import BufferedIOBase, BufferedReader, BufferedWriter
from pathlib import Path
from typing import cast

from drtools.errors import UserError


@cache
def local(path: str) -> str:
    """Return a path that can be read again: `path` itself, or for `-` a spooled copy of standard input.

    Standard input is read whole, once, so that it is fingerprinted, counted and continued like any file.
    """
    if path != "-":
        return path
    if sys.stdin.isatty():
        raise UserError("standard input is a terminal: pipe data into `-`, or name a file")
    with tempfile.NamedTemporaryFile(prefix="drtools-stdin-", delete=False) as spool:
        atexit.register(Path(spool.name).unlink, missing_ok=True)
        plain = cast(BufferedReader, sys.stdin.buffer)  # as the interpreter opens it; its stub says less
        stream = gzip.GzipFile(fileobj=plain) if plain.peek(2)[:2] == b"\x1f\x8b" else plain
        try:
            shutil.copyfileobj(stream, spool, 1 << 20)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"standard input: the gzip stream is cut short or damaged ({error})") from None
    return spool.name


def shown(path: str | Path) -> str:
    """Name a path in a message: `standard input` for `-` and its spooled copy."""
    text = str(path)
    return "standard input" if text == "-" or "drtools-stdin-" in text else text


def open_bytes(path: str | Path) -> BufferedIOBase:
    """Open for reading bytes, through gzip if the name ends in `.gz`."""
    if Path(path).is_dir():
        raise UserError(f"{path}: a folder was found where a file was expected")
    return gzip.open(path, "rb") if str(path).endswith(".gz") else open(path, "rb")


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end).

    Lines of white space alone, and a byte-order mark before the first, are left out.

    Raises UserError with file:line for a gzip file that is cut short or damaged.
    """
    path = local(str(path))
    number = 0
    with open_bytes(path) as stream:
        try:
            for line in stream:
                number += 1
                line = line.rstrip(b"\r\n")
                if number == 1:
                    line = line.removeprefix(BOM_UTF8)
                if line and not line.isspace():
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            if number == 0 and "Not a gzipped" in str(error):
                raise UserError(
                    f"{shown(path)}:1: the name ends in .gz, and what was found is not gzip; take .gz off the name, or "
                    "pack the file with gzip"
                ) from None
            raise UserError(
                f"{shown(path)}:{number + 1}: the gzip stream is cut short or damaged ({error}); fetch or write the "
                "file again"
            ) from None


def decode(line: bytes, path: str | Path, number: int) -> str:
    """Decode a line as UTF-8 (a leading byte-order mark is dropped), or name the byte that is not."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        if number == 1 and line.startswith(b"\x1f\x8b"):
            raise UserError(
                f"{shown(path)}:1: found gzip in a file whose name does not end in .gz; add .gz to the name"
            ) from None
        raise UserError(
            f"{shown(path)}:{number}: byte {error.start + 1} is not UTF-8 (found 0x{line[error.start]:02x}); "
            f"convert the file, for instance with `iconv -f latin1 -t utf-8`"
        ) from None


def open_for_writing(path: str | Path) -> BufferedIOBase:
    """Open for writing bytes.

    Through gzip if the name ends in `.gz`, with no date in it so that equal data are equal bytes.
    """
    if str(path).endswith(".gz"):
        return gzip.GzipFile(filename="", mode="wb", fileobj=open(path, "wb"), mtime=0, compresslevel=6)
    return cast(BufferedWriter, open(path, "wb", buffering=1 << 20))  # its stub says less
