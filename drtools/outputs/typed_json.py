"""JSON that was read from the disk, checked against the types that are declared for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from drtools.errors import InputError
from drtools.outputs.records import LARGEST

T = TypeVar("T")
LONGEST_SHOWN = 60  # characters of a value in a message


def fits(value: object, kind: Any) -> bool:
    """Return whether a JSON value has a type: a plain one, a list, a dict, a TypedDict, a Literal, or one of several.

    A whole number is a float too. As in Python, true and false are whole numbers: the first count of whether something
    was so is one of them.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (Any, object):
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and abs(value) <= LARGEST
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(each, arguments[0]) for each in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(fits(each, arguments[1]) for each in value.values())
    if is_typeddict(kind):
        return isinstance(value, dict) and all(
            fits(value[name], of_key) if name in value else name not in kind.__required_keys__
            for name, of_key in get_type_hints(kind).items()
        )
    return isinstance(value, kind)


def checked(value: object, kind: type[T], path: Path, remedy: str) -> T:
    """Return a JSON value that was read from `path`; InputError if it does not have a type."""
    if not fits(value, kind):
        raise InputError(f"found {_shown(value)}", where=path, expected=_words_of(kind), remedy=remedy)
    return value  # type: ignore[return-value]  # it was checked


def checked_fields(record: Mapping[str, object], kind: type, path: Path, remedy: str) -> dict[str, Any]:
    """Return what a JSON object that was read from `path` has of a dataclass's fields, each of the field's type.

    InputError if one has another type, or if one without a default is missing. Other keys are left out.
    """
    types, found = get_type_hints(kind), {}
    for each in dataclasses.fields(kind):
        if each.name not in record:
            if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
                raise InputError(f"the key {each.name!r} is missing", where=path, remedy=remedy)
            continue
        value = record[each.name]
        if not fits(value, types[each.name]):
            raise InputError(
                f"found {_shown(value)} at the key {each.name!r}",
                where=path,
                expected=_words_of(types[each.name]),
                remedy=remedy,
            )
        found[each.name] = value
    return found


def _shown(value: object) -> str:
    words = repr(value)
    return words if len(words) <= LONGEST_SHOWN else f"{words[:LONGEST_SHOWN]}..."


def _words_of(kind: Any) -> str:
    """Return a type in words for a message: `int`, `dict[str, int]`, `'bf16' or 'fp32'`, `str or None`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(_words_of, arguments))
    if kind is NoneType:
        return "null"
    if is_typeddict(kind):
        return f"an object with {', '.join(f'{name} ({_words_of(of)})' for name, of in get_type_hints(kind).items())}"
    return str(kind) if arguments else str(kind.__name__)
