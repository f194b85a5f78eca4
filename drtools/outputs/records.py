"""JSON objects as they are read: what the values of their keys have to be, and what is said where one is not.

Every value is checked once, where its file is read. Who reads a record afterwards asks for its keys as it likes: one
that is missing is an error of the file, and says so.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from drtools.errors import InputError
from drtools.units import readable

DAMAGED = "the file was damaged, make it again"
DEEPEST = 100  # objects and lists in each other; no file in use has ten
LARGEST = 2**63 - 1  # of whole numbers, which counts and sizes stay far below
HALF_A_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")  # a surrogate, which alone is no text


class Kind(NamedTuple):
    """What the value of a key has to be: a check, and how it is called in a message."""

    fits: Callable[[Any], bool]
    words: str


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and (isinstance(value, float) or abs(value) <= LARGEST)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str | None) for each in value.values())


NUMBER = Kind(_is_number, "a number")
WHOLE = Kind(lambda value: _is_whole(value, 0), "a number from 0 on")
COUNT = Kind(lambda value: _is_whole(value, 1), "a number from 1 on")
POSITIVE = Kind(lambda value: isinstance(value, int | float) and value is not True and value > 0, "a number above 0")
PATH = Kind(lambda value: isinstance(value, str) and "\0" not in value, "a path")
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
TEXT = Kind(lambda value: isinstance(value, str), "a text")
OBJECT = Kind(lambda value: isinstance(value, dict), "an object")
TEXTS = Kind(_is_texts, "an object of texts by their names")


def optional(kind: Kind) -> Kind:
    """Return a kind of which null is one too."""
    return Kind(lambda value: value is None or kind.fits(value), f"{kind.words}, or null")


def one_of(*words: str) -> Kind:
    """Return the kind of a text that is one of these words."""
    return Kind(lambda value: isinstance(value, str) and value in words, " or ".join(words))


def list_of(kind: Kind, length: int | None = None) -> Kind:
    """Return the kind of a list of values of a kind, of any length by default."""

    def fits(value: object) -> bool:
        return isinstance(value, list) and length in (None, len(value)) and all(map(kind.fits, value))

    return Kind(fits, f"a list of {kind.words}" if length is None else f"a list of {length}, each {kind.words}")


def object_of(kinds: Mapping[str, Kind], needed: Iterable[str] = ()) -> Kind:
    """Return the kind of an object whose values, as far as they are there, are of these kinds."""
    needed = frozenset(needed)

    def fits(value: object) -> bool:
        if not isinstance(value, dict) or not needed <= value.keys():
            return False
        return all(kinds[key].fits(item) for key, item in value.items() if key in kinds)

    words = ", ".join(f"{name} ({kinds[name].words})" for name in sorted(needed or kinds))
    return Kind(fits, f"an object with {words}")


def map_of(kind: Kind) -> Kind:
    """Return the kind of an object whose values are all of one kind, whatever their keys."""
    return Kind(
        lambda value: isinstance(value, dict) and all(map(kind.fits, value.values())), f"an object, each {kind.words}"
    )


class Record(dict[str, Any]):
    """A JSON object of a file. Asking it for a key that it lacks raises InputError with the file's name."""

    def __init__(
        self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), path: Path = Path(), remedy: str = DAMAGED
    ) -> None:
        super().__init__(values)
        self.path, self.remedy = path, remedy

    def __missing__(self, key: str) -> Any:
        raise InputError(f"no {key!r} was found in it", where=self.path, remedy=self.remedy)


def check_kinds(record: Mapping[str, Any], kinds: Mapping[str, Kind], path: Path, remedy: str = DAMAGED) -> None:
    """Raise InputError for a value that is not of its key's kind."""
    for key, kind in kinds.items():
        if key in record and not kind.fits(record[key]):
            raise InputError(f"{key} is {short(record[key])}", where=path, expected=kind.words, remedy=remedy)


def as_json(value: object, option: int = 0) -> bytes:
    """Return a value as JSON; names of files in it that are not UTF-8 are written with escapes."""
    try:
        return orjson.dumps(value, option=option)
    except TypeError:
        return orjson.dumps(_readable(value), option=option)


def _readable(value: object) -> object:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {_readable(key): _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list | tuple) else value


def short(value: object) -> str:
    """Return a value for a message: as it is written in Python, cut after a line's length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} …"


def parse_json(data: bytes, path: Path, remedy: str = DAMAGED) -> Any:
    """Return what JSON bytes say, each object as a `Record`; InputError for what is no JSON, or no text in it."""
    try:
        value = json.loads(data, object_hook=lambda values: Record(values, path, remedy))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", where=path, remedy=remedy) from None
    if _is_deeper(value, DEEPEST):
        raise InputError(f"objects or lists in each other, more than {DEEPEST}", where=path, remedy=remedy)
    if HALF_A_CHARACTER.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError("holds half a character (a lone surrogate)", where=path, remedy=remedy) from None
    return value


def _is_deeper(value: object, most: int) -> bool:
    """Return whether objects and lists stand in each other more than `most` times."""
    level = [value]
    for _ in range(most):
        inner: list[object] = []
        for each in level:
            inner += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return False
    return True
