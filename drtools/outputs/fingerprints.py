"""Fingerprints of content: of values, files and folders."""

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import orjson

from drtools.outputs.cache import cache_directory

CLOCK_STEP_NS = 2_000_000_000  # the coarsest clock of a file system in use, FAT's, counts every second second


def digest(value: object) -> str:
    """Return the fingerprint of a JSON value (keys in any order): 32 hexadecimal digits."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _hash(stream: BinaryIO) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    while block := stream.read(1 << 22):
        hasher.update(block)
    return hasher.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return the content hash of a file, computed once and remembered as long as the file is certainly unchanged.

    What is put in its place is another inode, and what is written into it has another time of change (ctime), which no
    program can set, unlike the size and the time of modification. A file that changed so shortly before it was read
    that the clock could not tell a later change apart is not remembered, and is read again.
    """
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
        with closing(_memory()) as memory, memory:
            memory.execute(
                f"insert or replace into {TABLE} values (?, ?, ?)", (os.fsencode(path), _state(before), fingerprint)
            )
    return fingerprint


def _state(status: os.stat_result) -> str:
    """Return what is different whenever a file may have another content."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _memory() -> sqlite3.Connection:
    memory = sqlite3.connect(cache_directory() / FINGERPRINTS, timeout=60)
    memory.execute(f"create table if not exists {TABLE} (path blob primary key, state text, hash text)")
    return memory


def _remembered(path: Path) -> str | None:
    with closing(_memory()) as memory, memory:
        row = memory.execute(
            f"select hash from {TABLE} where path = ? and state = ?", (os.fsencode(path), _state(path.stat()))
        ).fetchone()
    return row[0] if row else None


def content_fingerprint(folder: Path, files: list[Path]) -> str:
    """Return the fingerprint of files under a folder, their names included."""
    return digest([[str(path.relative_to(folder)), file_fingerprint(path)] for path in sorted(files)])


FINGERPRINTS, TABLE = "fingerprints.sqlite", "files_2"  # what an older version remembered in its table is not read
