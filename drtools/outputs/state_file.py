"""The file in OUT.partial that holds the state from which unfinished work continues."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from drtools.errors import InputError, param
from drtools.outputs.checksums import Checksum
from drtools.outputs.disk import read_json
from drtools.outputs.records import as_json, checked

STATE = "state.json"
FILES: Any = dict[str, int] | None
CHECKSUMS: Any = dict[str, Checksum] | None
START_AFRESH = f"use {param('overwrite')} to start afresh"


class Saved(NamedTuple):
    """The saved state of an earlier process.

    `state` is the tool's own state, which is read as its own type (`outputs/states.py`). `seconds` is the time that the
    work had taken. `offset` is the number of bytes that were written to a file. `files` has the sizes of the files that
    were written, {name: bytes}, and is None if an older version saved the state. `checksums` has the checksums of bytes
    that do not change any more. An older version saved none.
    """

    state: dict[str, Any]
    seconds: float
    offset: int
    files: dict[str, int] | None
    checksums: dict[str, Checksum]


def read_state(folder: Path) -> Saved:
    """Read the saved state in a folder of unfinished work. Raises InputError if the file was damaged."""
    path = folder / STATE
    state = read_json(path, remedy=START_AFRESH)
    _check_own(state, path)
    seconds = checked(state.pop("worked_seconds", 0.0), float, path, START_AFRESH)
    files = checked(state.pop("files", None), FILES, path, START_AFRESH)
    checksums = checked(state.pop("checksums", None), CHECKSUMS, path, START_AFRESH) or {}
    return Saved(state, seconds, checked(state.get("offset", 0), int, path, START_AFRESH), files, checksums)


def with_checksums(record: Mapping[str, object], checksums: Mapping[str, Checksum]) -> dict[str, object]:
    """Return what is written of a state, with the checksums of files if there are any, and then also its own."""
    if not checksums:
        return dict(record)
    record = {**record, "checksums": dict(checksums)}
    return {**record, "checksums": {**checksums, STATE: _own_checksum(record)}}


def _own_checksum(record: Mapping[str, object]) -> Checksum:
    """Return the checksum of a state without this entry. It belongs to no bytes of the file."""
    return {"first": 0, "last": 0, "crc32": zlib.crc32(as_json(record, orjson.OPT_SORT_KEYS))}


def _check_own(state: Mapping[str, Any], path: Path) -> None:
    """Raise InputError if a state with a checksum of its own is not what was written."""
    known = state.get("checksums")
    if not isinstance(known, dict) or STATE not in known:
        return
    others = {name: each for name, each in known.items() if name != STATE}
    try:
        same = known[STATE] == _own_checksum({**state, "checksums": others})
    except TypeError:  # a number that was never written
        same = False
    if not same:
        raise InputError("its content changed after it was written", where=path, remedy=START_AFRESH)
