"""The file in OUT.partial that holds the state from which unfinished work continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import param
from drtools.outputs.checksums import Checksum
from drtools.outputs.disk import read_json
from drtools.outputs.records import checked

STATE = "state.json"
FILES: Any = dict[str, int] | None
CHECKSUMS: Any = dict[str, Checksum] | None
START_AFRESH = f"use {param('overwrite')} to start afresh"


class Saved(NamedTuple):
    """The saved state of an earlier process.

    `state` is the tool's own state, which is read as its own type (`outputs/states.py`). `seconds` is the time that the
    work had taken. `offset` is the number of bytes that were written to a file. `files` has the sizes of the files that
    were written, {name: bytes}, and is None if an older version saved the state. `checksums` has the
    checksums of bytes that do not change any more. An older version saved none.
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
    seconds = checked(state.pop("worked_seconds", 0.0), float, path, START_AFRESH)
    files = checked(state.pop("files", None), FILES, path, START_AFRESH)
    checksums = checked(state.pop("checksums", None), CHECKSUMS, path, START_AFRESH)
    return Saved(state, seconds, checked(state.get("offset", 0), int, path, START_AFRESH), files, checksums or {})
