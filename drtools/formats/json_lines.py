"""JSON lines: one object per line; every error names the file and the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from drtools.errors import InputError
from drtools.formats.lines import decode, read_lines, shown


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file; InputError with file:line for anything else."""
    for number, line in read_lines(path):
        yield number, parse_object(line, path, number)


def parse_object(line: bytes, path: str | Path, number: int) -> dict[str, Any]:
    """Parse one line as a JSON object."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        decode(line, path, number)
        advice = "; ".join(filter(None, ["expected one object a line", json_advice(line)]))
        raise InputError(f"not JSON ({error})", where=f"{shown(path)}:{number}", remedy=advice) from None
    if not isinstance(record, dict):
        raise InputError(f"found a JSON {type(record).__name__}", where=f"{shown(path)}:{number}", expected="an object")
    return record


def checked_id(value: object, path: str | Path, number: int) -> str:
    """Return an id as the string that runs and qrels can hold, or say why it cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise InputError(f"the id is {value!r}", where=f"{shown(path)}:{number}", expected="a string that is not empty")
    if len(value.split()) != 1 or value.strip() != value:
        raise InputError(
            f"the id {value!r} holds white space, which TREC runs cannot",
            where=f"{shown(path)}:{number}",
            remedy="replace it, for instance by `_`",
        )
    return value


def json_advice(line: bytes) -> str:
    """Return the remedy for a line that is not JSON, or "" if none is known."""
    text = line.decode().strip()
    if text.startswith("["):
        return "an array becomes one object a line by `jq -c '.[]' FILE`"
    if text == "{" or (text.startswith("{") and "\r" in text):
        return "`jq -c . FILE` writes each object on one line"
    if text.endswith("},"):
        return "take the comma after it away"
    try:
        json.loads(text, strict=False)  # reads what Python's json writes and JSON has not
    except (ValueError, RecursionError):
        return ""
    if "\\ud" in text.lower():
        return "half of a surrogate pair is no character, take it out or write \\ufffd"
    if any(sign < " " for sign in text):
        return "write control characters as escapes, a tab as \\t"
    return "JSON has no NaN and no Infinity, write null"


def json_line(record: dict[str, Any]) -> bytes:
    """Return a record as one line of JSON."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
