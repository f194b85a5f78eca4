"""Files on the disk: JSON that is written whole, gzip without a date, flushing, locks."""

import ctypes
import fcntl
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
    """Read the object of a small JSON file. Raises InputError if it is damaged or a value is not of its key's kind."""
    value = parse_json(path.read_bytes(), path, remedy)
    if not isinstance(value, Record):
        raise InputError(f"found {type(value).__name__}", where=path, expected="a JSON object", remedy=remedy)
    check_kinds(value, kinds or {}, path, remedy)
    return value


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a small JSON file whole: to a temporary name, flushed to the disk, then renamed."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as stream:
        stream.write(as_json(value, orjson.OPT_INDENT_2) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def flush_to_disk(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def is_standard_output(output: str) -> bool:
    """Return whether an output is standard output: `-`, or one of the system's names for it."""
    return output in STANDARD_OUTPUT


def is_gzip_name(path: str | Path) -> bool:
    """Return whether a name ends in `.gz`, in upper or lower case."""
    return str(path).lower().endswith(".gz")


def open_for_writing(path: str | Path) -> BufferedIOBase:
    """Open a file for writing bytes.

    A name that ends in `.gz` is written through gzip, without a date, so that equal data give equal bytes.
    """
    if is_gzip_name(path):
        return gzip.GzipFile(filename="", mode="wb", fileobj=open(path, "wb"), mtime=0, compresslevel=6)
    return cast(BufferedWriter, open(path, "wb", buffering=1 << 20))  # its stub says less


def lock_file(descriptor: int) -> bool:
    """Lock an open file exclusively, without waiting. Returns whether that succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


RENAME_EXCHANGE, AT_FDCWD = 2, -100  # of Linux's renameat2


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders in one step. Returns False if the system cannot do this."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return bool(rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0)


def open_to_others(folder: Path) -> None:
    """Give files and folders the modes of the umask. Some libraries create files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")) if folder.is_dir() else (folder,):
        if not path.is_symlink():
            wanted = (0o777 if path.is_dir() else 0o666) & ~mask
            mode = path.stat().st_mode & 0o7777
            if mode | wanted != mode:
                path.chmod(mode | wanted)
