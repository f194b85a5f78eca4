"""Paths of inputs on this machine: left out of published files, and remembered in the cache.

A model folder is made to be uploaded. Its files hold the name and the fingerprint of each input, but not its path. The
cache on this machine remembers where an input with that fingerprint was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from drtools.outputs.cache import cache_directory, connect, forgiving

PUBLISHED = ("encoder", "ranker", "rem", "release")  # kinds of outputs whose files hold no absolute path
ABSOLUTE = re.compile(r"(?<![\w/.~:-])/(?:[^\s/'\"`():;,]+/)+[^\s/'\"`():;,]+")  # absolute, two parts or more
MEMORY = "places.sqlite"
SCHEMA = "create table if not exists places (fingerprint text, path text, primary key (fingerprint, path))"


def without_places(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with each absolute path replaced by its last part.

    The cache remembers the paths of inputs that have a fingerprint.
    """
    known = sorted({path for path in _paths(record) if os.path.isabs(path)}, key=len, reverse=True)
    remember_places([(item["fingerprint"], item["path"]) for item in _inputs(record) if item["path"] in known])
    return {name: _shortened(value, known) for name, value in record.items()}


def places_of(fingerprint: str) -> list[Path]:
    """Return the paths at which an input with this fingerprint was found."""
    rows: list[tuple[object]] = []
    path = cache_directory() / MEMORY
    if path.exists():
        with forgiving(path), closing(connect(path, SCHEMA)) as memory:
            rows = memory.execute(
                "select path from places where fingerprint = ? order by path", (fingerprint,)
            ).fetchall()
    return [Path(place) for (place,) in rows if isinstance(place, str) and "\0" not in place]


def remember_places(found: list[tuple[str, str]]) -> None:
    """Remember the paths of inputs, given as (fingerprint, path)."""
    if not found:
        return
    path = cache_directory() / MEMORY
    with forgiving(path), closing(connect(path, SCHEMA)) as memory:
        memory.executemany("insert or ignore into places values (?, ?)", found)


def _inputs(value: object) -> Iterator[dict[str, Any]]:
    """Yield the inputs of a request: {"path", "fingerprint"}."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str) and isinstance(value.get("fingerprint"), str):
            yield value
        for item in value.values():
            yield from _inputs(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _inputs(item)


def _paths(value: object) -> Iterator[str]:
    """Yield the paths in a record: those of its inputs, and strings that are existing files or folders."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "path" and isinstance(item, str):
                yield item
            yield from _paths(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, str) and os.path.isabs(value) and Path(value).name and _exists(value):
        yield value


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a long text, or one with a NUL
        return False


def _shortened(value: object, known: list[str]) -> object:
    if isinstance(value, dict):
        return {name: _shortened(item, known) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item, known) for item in value]
    if not isinstance(value, str):
        return value
    for path in known:
        value = value.replace(path, Path(path).name)
    return ABSOLUTE.sub(_name_of, value)


def _name_of(match: re.Match[str]) -> str:
    """Return the last part of a match that is a path on this machine; return any other match unchanged."""
    path = Path(match[0])
    return path.name if Path(*path.parts[:2]).is_dir() else match[0]
