"""Files on the disk: JSON written whole, gzip without a date, bytes that are surely there."""

import gzip
import os
from collections.abc import Mapping
from io import BufferedIOBase, BufferedWriter
from pathlib import Path
from typing import cast

import orjson

from drtools.errors import InputError
from drtools.outputs.records import DAMAGED, Kind, Record, as_json, check_kinds, parse_json


def read_json(path: Path, kinds: Mapping[str, Kind] | None = None, remedy: str = DAMAGED) -> Record:
    """Return a small JSON file's object; InputError if it is none, or if a value is not of its key's kind."""
    value = parse_json(path.read_bytes(), path, remedy)
    if not isinstance(value, Record):
        raise InputError(f"found {type(value).__name__}", where=path, expected="a JSON object", remedy=remedy)
    check_kinds(value, kinds or {}, path, remedy)
    return value


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a small JSON file whole: to a name beside it, flushed to the disk, then renamed."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as stream:
        stream.write(as_json(value, orjson.OPT_INDENT_2) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def flush_to_disk(path: Path) -> None:
    """Return once a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def is_standard_output(output: str) -> bool:
    """Return whether an output is standard output: `-`, or a name that the system gives it."""
    return output in STANDARD_OUTPUT


def is_gzip_name(path: str | Path) -> bool:
    """Return whether a name says that a file is gzip: it ends in `.gz`, in letters of either case."""
    return str(path).lower().endswith(".gz")


def open_for_writing(path: str | Path) -> BufferedIOBase:
    """Open for writing bytes.

    Through gzip if the name ends in `.gz`, with no date in it so that equal data are equal bytes.
    """
    if is_gzip_name(path):
        return gzip.GzipFile(filename="", mode="wb", fileobj=open(path, "wb"), mtime=0, compresslevel=6)
    return cast(BufferedWriter, open(path, "wb", buffering=1 << 20))  # its stub says less
