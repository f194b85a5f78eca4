"""Files on the disk: JSON written whole, gzip without a date, bytes that are surely there."""

import gzip
import json
import os
from collections.abc import Mapping
from io import BufferedIOBase, BufferedWriter
from pathlib import Path
from typing import Any, cast

import orjson

from drtools.errors import InputError


def read_json(path: Path, remedy: str = "the file was damaged, make it again") -> dict[str, Any]:
    """Return a small JSON file's object; InputError, which names the `remedy`, if it is not one."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"not JSON ({error})", where=path, remedy=remedy) from None
    if not isinstance(value, dict):
        raise InputError(f"a JSON object was expected, found {type(value).__name__}", where=path, remedy=remedy)
    return value


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a small JSON file whole: to a name beside it, flushed to the disk, then renamed."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as stream:
        stream.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
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
