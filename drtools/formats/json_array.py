"""JSON objects, one per line or in one array; other toolkits write both forms with the suffix .json."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drtools.errors import InputError
from drtools.formats.json_lines import parse_object, read_json_lines
from drtools.formats.lines import decode, first_line, local, read_whole, shown

SPACE = re.compile(r"\s*")


def read_records(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of JSONL or of one JSON array; InputError with file:line for anything else.

    Lines are read one by one; an array is read whole, which takes one to five times the file's size in memory.
    """
    yield from _array_items(path) if first_line(path).lstrip().startswith(b"[") else read_json_lines(path)


def _array_items(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = _whole_text(path)
    decoder = json.JSONDecoder()  # finds the end of an item, which the faster parser cannot
    line, counted, at = 1, 0, text.index("[") + 1
    while True:
        at = _after_space(text, at)
        line, counted = line + text.count("\n", counted, at), at
        if text.startswith("]", at):
            break
        try:
            _, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InputError(
                f"not JSON ({error.msg}); is the array whole?", where=f"{shown(path)}:{error.lineno}"
            ) from None
        except RecursionError:
            raise InputError(
                "nested too deeply", where=f"{shown(path)}:{line}", expected="an array of objects"
            ) from None
        yield line, parse_object(text[at:end].encode(), path, line)
        at = _after_space(text, end)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith("]", at):
            raise InputError(
                "neither a comma nor `]` follows an item; is the array whole?",
                where=f"{shown(path)}:{_line_of(text, at)}",
            )
    if text[at + 1 :].strip():
        raise InputError(
            "something follows the JSON array",
            where=f"{shown(path)}:{_line_of(text, at)}",
            expected="one array, or one object a line",
        )


def _after_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    assert found is not None, "it matches nothing too"
    return found.end()


def _line_of(text: str, at: int) -> int:
    return 1 + text.count("\n", 0, at)


def _whole_text(path: str | Path) -> str:
    data = read_whole(local(str(path))).removeprefix(BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        number = 1 + data.count(b"\n", 0, error.start)
        return decode(data.split(b"\n")[number - 1], path, number)  # raises, naming the byte
