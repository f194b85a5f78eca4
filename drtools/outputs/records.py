"""JSON objects that were read from a file, and checks of their values.

A `Kind` says what a value must be. Declared types (dataclasses, TypedDicts, `list[int]`) are turned into kinds by
`kind_of`. Values are checked once, where their file is read. A key that turns out to be missing later raises
InputError with the file's name (`Record`).
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import orjson

from drtools.errors import InputError
from drtools.units import readable

T = TypeVar("T")
DAMAGED = "the file was damaged, make it again"
DEEPEST = 100  # levels of nested objects and lists; no file in use has ten
LARGEST = 2**63 - 1  # of whole numbers; counts and sizes are far smaller
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half a character, which is not valid text by itself


class Kind(NamedTuple):
    """A condition on a JSON value: a check, and its description for messages."""

    fits: Callable[[Any], bool]
    words: str


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and (isinstance(value, float) or abs(value) <= LARGEST)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _is_strings(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str | None) for each in value.values())


ANYTHING = Kind(lambda value: True, "any value")
NUMBER = Kind(_is_number, "a number")
INTEGER = Kind(lambda value: isinstance(value, int) and abs(value) <= LARGEST, "a whole number")  # true counts as one
WHOLE = Kind(lambda value: _is_whole(value, 0), "a whole number, at least 0")
COUNT = Kind(lambda value: _is_whole(value, 1), "a whole number, at least 1")
POSITIVE = Kind(lambda value: isinstance(value, int | float) and value is not True and value > 0, "a number above 0")
PATH = Kind(lambda value: isinstance(value, str) and "\0" not in value, "a path")
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
TEXT = Kind(lambda value: isinstance(value, str), "a string")
OBJECT = Kind(lambda value: isinstance(value, dict), "an object")
LIST = Kind(lambda value: isinstance(value, list), "a list")
NULL = Kind(lambda value: value is None, "null")
TEXTS = Kind(_is_strings, "an object, each value a string or null")
PLAIN: dict[Any, Kind] = {Any: ANYTHING, object: ANYTHING, NoneType: NULL, str: TEXT, bool: FLAG, int: INTEGER}
PLAIN |= {float: NUMBER, dict: OBJECT, list: LIST}


def any_of(*kinds: Kind) -> Kind:
    """Return a kind that accepts what one of these kinds accepts."""
    return Kind(lambda value: any(kind.fits(value) for kind in kinds), " or ".join(kind.words for kind in kinds))


def optional(kind: Kind) -> Kind:
    """Return a kind that also accepts null."""
    return Kind(lambda value: value is None or kind.fits(value), f"{kind.words}, or null")


def one_of(*words: str) -> Kind:
    """Return a kind that accepts only these strings."""
    return Kind(lambda value: isinstance(value, str) and value in words, " or ".join(words))


def list_of(kind: Kind, length: int | None = None) -> Kind:
    """Return a kind that accepts a list whose items are all of one kind; `length` is its number of items, if given."""

    def fits(value: object) -> bool:
        return isinstance(value, list) and length in (None, len(value)) and all(map(kind.fits, value))

    return Kind(fits, f"a list{'' if length is None else f' of length {length}'}, each {kind.words}")


def object_of(kinds: Mapping[str, Kind], needed: Iterable[str] = ()) -> Kind:
    """Return a kind that accepts an object with values of these kinds. Only `needed` keys must be there."""
    needed = frozenset(needed)

    def fits(value: object) -> bool:
        if not isinstance(value, dict) or not needed <= value.keys():
            return False
        return all(kinds[key].fits(item) for key, item in value.items() if key in kinds)

    words = ", ".join(f"{name} ({kinds[name].words})" for name in sorted(needed or kinds))
    return Kind(fits, f"an object with {words}")


def map_of(kind: Kind) -> Kind:
    """Return a kind that accepts an object whose values are all of one kind, with any keys."""
    return Kind(
        lambda value: isinstance(value, dict) and all(map(kind.fits, value.values())),
        f"an object, each value {kind.words}",
    )


def kind_of(declared: Any) -> Kind:
    """Return the kind of a declared type: a plain one, a list, a dict, a TypedDict, a Literal, or a union of these.

    `float` accepts whole numbers too. `int` accepts true and false, since some counts were first written as booleans.
    """
    origin, arguments = get_origin(declared), get_args(declared)
    if declared in PLAIN:
        return PLAIN[declared]
    if origin is Literal:
        return one_of(*arguments)
    if origin in (Union, UnionType):
        return any_of(*map(kind_of, arguments))
    if origin is list:
        return list_of(kind_of(arguments[0]))
    if origin in (dict, Mapping):
        return map_of(kind_of(arguments[1]))
    if is_typeddict(declared):
        return object_of(
            {name: kind_of(each) for name, each in get_type_hints(declared).items()}, declared.__required_keys__
        )
    raise TypeError(f"{declared} is not the type of a JSON value")


class Record(dict[str, Any]):
    """A JSON object that was read from a file. A missing key raises InputError with the file's name."""

    def __init__(
        self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), path: Path = Path(), remedy: str = DAMAGED
    ) -> None:
        super().__init__(values)
        self.path, self.remedy = path, remedy

    def __missing__(self, key: str) -> Any:
        raise InputError(f"the key {key!r} is missing", where=self.path, remedy=self.remedy)


def check_kinds(record: Mapping[str, Any], kinds: Mapping[str, Kind], path: Path, remedy: str = DAMAGED) -> None:
    """Raise InputError if a value is not of the kind of its key."""
    for key, kind in kinds.items():
        if key in record and not kind.fits(record[key]):
            raise InputError(f"{key} is {short(record[key])}", where=path, expected=kind.words, remedy=remedy)


def checked(value: object, declared: type[T], path: Path, remedy: str) -> T:
    """Return a JSON value that was read from `path`. Raises InputError if it does not have the declared type."""
    kind = kind_of(declared)
    if not kind.fits(value):
        raise InputError(f"found {short(value)}", where=path, expected=kind.words, remedy=remedy)
    return value  # type: ignore[return-value]  # it was checked


def checked_fields(record: Mapping[str, object], declared: type, path: Path, remedy: str) -> dict[str, Any]:
    """Return the values that a JSON object from `path` has for the fields of a dataclass. Other keys are left out.

    Raises InputError if a value does not have its field's type, or if a field without a default is missing.
    """
    fields = dataclasses.fields(declared)
    for each in fields:
        has_default = each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
        if each.name not in record and not has_default:
            raise InputError(f"the key {each.name!r} is missing", where=path, remedy=remedy)
    types = get_type_hints(declared)
    check_kinds(record, {each.name: kind_of(types[each.name]) for each in fields}, path, remedy)
    return {each.name: record[each.name] for each in fields if each.name in record}


def as_json(value: object, option: int = 0) -> bytes:
    """Return a value as JSON. File names in it that are not UTF-8 are written with escapes."""
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
    """Return a value for a message, as Python writes it, cut after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} …"


def parse_json(data: bytes, path: Path, remedy: str = DAMAGED) -> Any:
    """Parse JSON bytes, each object as a `Record`. Raises InputError for bytes that are not JSON, or not valid text."""
    try:
        value = json.loads(data, object_hook=lambda values: Record(values, path, remedy))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", where=path, remedy=remedy) from None
    if _is_deeper(value, DEEPEST):
        raise InputError(f"more than {DEEPEST} levels of nested objects or lists", where=path, remedy=remedy)
    if SURROGATE.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError("found half a character (a lone surrogate)", where=path, remedy=remedy) from None
    return value


def _is_deeper(value: object, most: int) -> bool:
    """Return whether objects and lists are nested more than `most` levels deep."""
    level = [value]
    for _ in range(most):
        inner: list[object] = []
        for each in level:
            inner += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return False
    return True
