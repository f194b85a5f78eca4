"""Manifests and fingerprints: what an artefact is, what it was made from, and whether two are the same."""

import hashlib
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import orjson

from drtools.errors import UserError

NAME = "manifest.json"
FINGERPRINTS, TABLE = "fingerprints.sqlite", "files_2"  # what an older version remembered in its table is not read
CLOCK_STEP_NS = 2_000_000_000  # the coarsest clock of a file system in use, FAT's, counts every second second


def cache_path() -> Path:
    """Return where what can be made again is kept: $DRTOOLS_CACHE, else drtools under $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("DRTOOLS_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drtools"


def cache_directory() -> Path:
    """Return that folder, made if it is not there."""
    folder = cache_path()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def fingerprint(path: str | Path) -> str:
    """Return the fingerprint of a file's content, or of a folder's.

    A folder's manifest knows it, unless a file of the folder may have changed after the manifest was written.
    """
    path = Path(path)
    if not path.is_dir():
        return file_fingerprint(path)
    files, where = [file for file in path.rglob("*") if file.is_file()], path / NAME
    record = read_json(where) if where in files else {}
    if "fingerprint" not in record:
        return content_fingerprint(path, files)
    files.remove(where)
    written = where.stat().st_ctime_ns
    if record.get("kind") == "release" or all(file.stat().st_ctime_ns < written for file in files):
        return record["fingerprint"]
    return content_fingerprint(path, files)


def beside(path: Path) -> Path:
    """Return where an artefact's manifest is: inside a folder, beside a file."""
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


def read(path: str | Path) -> dict:
    """Return the manifest of an artefact; UserError if it has none, which means that it was never finished."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    where = beside(path)
    if not where.exists():
        raise UserError(
            f"{path}: no {where.name} was found, so this is not a finished output of drtools; {_advice(path)}"
        )
    return read_json(where)


def _advice(path: Path) -> str:
    """Return the next move for what has no manifest, by what lies in it."""
    found = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if any(name.endswith(".npy") for name in found):
        return "copy it whole, or adopt vectors of another program with `drtools convert --vectors`"
    if any(name.endswith((".faiss", ".index")) for name in found):
        return "copy it whole, or build an index of your vectors with `drtools index --vectors`"
    if "lucene" in found or any(name.startswith("segments_") for name in found):
        return "copy it whole, or build a Lucene index of your corpus with `drtools index --lucene`"
    return "copy it whole, or make it again"


def read_json(path: Path) -> dict:
    """Return a small JSON file's object; UserError if it is not JSON."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); the file was damaged, make it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: a JSON object was expected, found {type(value).__name__}")
    return value


def write_json(path: Path, value: dict) -> None:
    """Write a small JSON file whole: to a name beside it, flushed to the disk, then renamed."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as stream:
        stream.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
