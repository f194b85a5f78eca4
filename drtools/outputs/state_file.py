"""The file in OUT.partial that keeps what unfinished work continues from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import param
from drtools.outputs.disk import read_json
from drtools.outputs.typed_json import checked

STATE = "state.json"
FILES: Any = dict[str, int] | None
START_AFRESH = f"use {param('overwrite')} to start afresh"


class Saved(NamedTuple):
    """What an earlier process saved.

    `state` is what the tool gave, to be read as its own type (`outputs/states.py`); `seconds` is how long the work had
    taken, `offset` how many bytes of a file it had written, `files` the sizes of what was written: {name: bytes}, None
    if an older version saved it.
    """

    state: dict[str, Any]
    seconds: float
    offset: int
    files: dict[str, int] | None


def read_state(folder: Path) -> Saved:
    """Read what the work in a folder was saved with; InputError if it is not what was written."""
    path = folder / STATE
    state = read_json(path, remedy=START_AFRESH)
    seconds = checked(state.pop("worked_seconds", 0.0), float, path, START_AFRESH)
    files = checked(state.pop("files", None), FILES, path, START_AFRESH)
    return Saved(state, seconds, checked(state.get("offset", 0), int, path, START_AFRESH), files)
