"""Manifests and fingerprints: what an artefact is, what it was made from, and whether two are the same."""

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson

from drtools.errors import UserError

NAME = "manifest.json"


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


def _hash_file(path: Path) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            hasher.update(block)
    return hasher.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return the content hash of a file, computed once and remembered by (path, size, time of change)."""
    path = path.resolve()
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    with closing(sqlite3.connect(cache_directory() / "fingerprints.sqlite", timeout=60)) as memory, memory:
        memory.execute(
            "create table if not exists files (path text primary key, size integer, changed integer, hash text)"
        )
        row = memory.execute("select hash from files where (path, size, changed) = (?, ?, ?)", key).fetchone()
    if row:
        return row[0]
    fingerprint = _hash_file(path)
    with closing(sqlite3.connect(cache_directory() / "fingerprints.sqlite", timeout=60)) as memory, memory:
        memory.execute("insert or replace into files values (?, ?, ?, ?)", (*key, fingerprint))
    return fingerprint


def content_fingerprint(folder: Path, files: list[Path]) -> str:
    """Return the fingerprint of files under a folder, their names included."""
    return digest([[str(path.relative_to(folder)), file_fingerprint(path)] for path in sorted(files)])


def fingerprint(path: str | Path) -> str:
    """Return the fingerprint of a file's content, or of a folder's (its manifest knows it, if it has one)."""
    path = Path(path)
    if not path.is_dir():
        return file_fingerprint(path)
    known = read_json(path / NAME).get("fingerprint") if (path / NAME).exists() else None
    return known or content_fingerprint(path, [file for file in path.rglob("*") if file.is_file()])


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
            f"{path}: no {where.name} was found, so this is not a finished output of drtools; make it again, or adopt "
            "foreign data with `drtools convert`"
        )
    return read_json(where)


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
