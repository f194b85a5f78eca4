"""Fingerprints of content: of values, files and folders."""

import hashlib
import os
import re
import time
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import orjson

from drtools.outputs.cache import cache_directory, cache_path, connect, forgiving
from drtools.outputs.records import as_json

INT8 = "-int8"  # ends the fingerprints of encoders in int8
CLOCK_STEP_NS = 2_000_000_000  # the coarsest clock of a file system, FAT's, has steps of two seconds


def digest(value: object) -> str:
    """Return the fingerprint of a JSON value: 32 hexadecimal digits. The order of keys does not matter."""
    return hashlib.blake2b(as_json(value, orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def in_int8(fingerprint: str) -> str:
    """Return the fingerprint of an encoder in int8: that of the same encoder in floating point, marked."""
    return fingerprint.removesuffix(INT8) + INT8


def is_int8(fingerprint: str) -> bool:
    """Return whether a fingerprint is that of an encoder in int8."""
    return fingerprint.endswith(INT8)


def in_floats(fingerprint: str) -> str:
    """Return the fingerprint of the encoder in floating point."""
    return fingerprint.removesuffix(INT8)


def _hash(stream: BinaryIO) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    while block := stream.read(1 << 22):
        hasher.update(block)
    return hasher.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return the content hash of a file. It is computed once and kept in the cache while the file is surely unchanged.

    A file that replaces it has another inode. A write into it changes its ctime, which programs cannot set, unlike the
    size and the time of modification. The hash is not kept if the file changed so shortly before it was read that the
    clock could not show a later change.
    """
    if is_nameless(path):
        with open(path, "rb") as stream:
            return _hash(stream)
    path = path.resolve()
    known = _remembered(path)
    if known:
        return known
    now = time.time_ns()
    with open(path, "rb") as stream:
        before = os.fstat(stream.fileno())
        fingerprint = _hash(stream)
        after = os.fstat(stream.fileno())
    if _state(before) == _state(after) and max(before.st_ctime_ns, before.st_mtime_ns) + CLOCK_STEP_NS <= now:
        _remember(path, before, fingerprint)
    return fingerprint


def is_nameless(path: Path) -> bool:
    """Return whether a path is an open file of this process without a name, such as a copy of standard input."""
    return str(path).startswith(OPEN_FILES)


def _state(status: os.stat_result) -> str:
    """Return a text that differs whenever the content of a file may differ."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _remember(path: Path, status: os.stat_result, fingerprint: str) -> None:
    memory_file = cache_directory() / FINGERPRINTS
    with forgiving(memory_file), closing(connect(memory_file, SCHEMA)) as memory:
        memory.execute(
            f"insert or replace into {TABLE} values (?, ?, ?)", (os.fsencode(path), _state(status), fingerprint)
        )


def _remembered(path: Path) -> str | None:
    row, memory_file = None, cache_directory() / FINGERPRINTS
    with forgiving(memory_file), closing(connect(memory_file, SCHEMA)) as memory:
        row = memory.execute(
            f"select hash from {TABLE} where path = ? and state = ?", (os.fsencode(path), _state(path.stat()))
        ).fetchone()
    known = row[0] if row else None
    return known if isinstance(known, str) and HASH.fullmatch(known) else None


def known_paths(fingerprint: str) -> list[Path]:
    """Return the files that the cache knows with this content. They may have changed or disappeared since."""
    rows: list[tuple[object]] = []
    memory_file = cache_path() / FINGERPRINTS
    if memory_file.exists():
        with forgiving(memory_file), closing(connect(memory_file, SCHEMA)) as memory:
            rows = memory.execute(f"select path from {TABLE} where hash = ? order by path", (fingerprint,)).fetchall()
    return [Path(os.fsdecode(path)) for (path,) in rows if isinstance(path, bytes)]


def content_fingerprint(folder: Path, files: list[Path]) -> str:
    """Return the fingerprint of the names and contents of files under a folder."""
    return digest([[str(path.relative_to(folder)), file_fingerprint(path)] for path in sorted(files)])


OPEN_FILES = "/proc/self/fd/"
FINGERPRINTS, TABLE = "fingerprints.sqlite", "files_2"  # the table of an older version is not read
SCHEMA = f"create table if not exists {TABLE} (path blob primary key, state text, hash text)"
HASH = re.compile("[0-9a-f]{32}")
