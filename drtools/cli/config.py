"""Flags from a YAML file (--config): read with their lines, and put before those of the command line, which win."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from drtools.cli.tool_flags import Flag
from drtools.errors import InputError

CONFIG = "--config"
NAMES_SHOWN = 3
TRUE, FALSE, NULL = ("true", "yes", "on"), ("false", "no", "off"), ("", "~", "null")


def with_config(name: str, arguments: Sequence[str], flags: Sequence[Flag]) -> list[str]:
    """Return a command line of a tool with the flags of its --config file, where the command line does not have them.

    Without --config the command line stays as it is. Raises InputError with file:line for a key that is no flag of the
    tool, or a value that is none.
    """
    given, places, file = _given(arguments, flags)
    if file is None:
        return list(arguments)
    words: list[str] = []
    positional: list[str] = []
    for line, key, values, is_list in _entries(file):
        flag = _flag_of(key, flags, name, f"{file}:{line}")
        if is_list and not flag.many:
            raise InputError(f"{key} has a list", where=f"{file}:{line}", expected="one value")
        if flag.parameter in given:
            continue
        if not flag.names:
            positional += values
            continue
        words += _words_of(flag, values, f"{file}:{line}", key)
    return [*words, *arguments, *(["--", *positional] if positional and not places else [])]


def _given(arguments: Sequence[str], flags: Sequence[Flag]) -> tuple[set[str], int, str | None]:
    """Return the parameters that a command line has, the number of its arguments, and --config's file."""
    by_name = {name: flag for flag in flags for name in (*flag.names, *flag.former_names)}
    argument = next((flag for flag in flags if not flag.names), None)
    given: set[str] = set()
    places, file = 0, None
    waiting: Flag | None = None
    only_arguments = False
    for word in arguments:
        if waiting is not None:
            file = word if waiting.names[0] == CONFIG else file
            waiting = None
            continue
        head, is_joined, value = word.partition("=")
        flag = None if only_arguments else by_name.get(head)
        if word == "--" and not only_arguments:
            only_arguments = True
        elif flag is not None:
            given.add(flag.parameter)
            if is_joined:
                file = value if flag.names[0] == CONFIG else file
            elif flag.kind is not bool:
                waiting = flag
        elif only_arguments or not word.startswith("-") or word == "-":
            places += 1
            if argument:
                given.add(argument.parameter)
        elif word[:2] in by_name and not word.startswith("--"):  # -oOUT
            given.add(by_name[word[:2]].parameter)
    return given, places, file


def _entries(file: str) -> Iterator[tuple[int, str, list[str], bool]]:
    """Yield (line, key, values as text, whether they are a list) of a YAML file with one mapping."""
    import yaml  # type: ignore[import-untyped]

    try:
        with open(file, encoding="utf-8") as stream:
            root = yaml.compose(stream, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise InputError("not UTF-8", where=file, expected="a YAML file with flags") from None
    except IsADirectoryError:
        raise InputError("found a folder", where=file, expected="a YAML file with flags") from None
    except FileNotFoundError:
        raise InputError(f"no such file ({CONFIG})", where=file) from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else file
        words = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise InputError(f"not YAML ({words})", where=place) from None
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise InputError("found no mapping", where=f"{file}:1", expected="lines `flag: value`")
    seen: dict[str, int] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        name = _text(key, file).lstrip("-").replace("_", "-")
        if name in seen:
            raise InputError(f"{name} is in line {seen[name]} already", where=f"{file}:{line}", remedy="keep one")
        seen[name] = line
        is_list = isinstance(value, yaml.SequenceNode)
        items = value.value if is_list else [value]
        yield line, name, [_text(item, file) for item in items if not _is_null(item)], is_list


def _text(node: Any, file: str) -> str:
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        raise InputError("found a nested value", where=f"{file}:{node.start_mark.line + 1}", expected="one value")
    return str(node.value)


def _is_null(node: Any) -> bool:
    return getattr(node, "style", "'") is None and getattr(node, "value", None) in NULL


def _flag_of(key: str, flags: Sequence[Flag], tool: str, where: str) -> Flag:
    for flag in flags:
        if f"--{key}" in (*flag.names, *flag.former_names) and f"--{key}" != CONFIG:
            return flag
        if not flag.names and key == flag.parameter.replace("_", "-"):
            return flag
    known = [name[2:] for flag in flags for name in flag.names if name.startswith("--")]
    known += [flag.parameter for flag in flags if not flag.names]
    near = difflib.get_close_matches(key, known, n=NAMES_SHOWN)
    raise InputError(
        f"found {key!r}",
        where=where,
        expected=f"a flag of {tool}" + (f" such as {', '.join(near)}" if near else f" (drtools {tool} --help-all)"),
    )


def _words_of(flag: Flag, values: list[str], where: str, key: str) -> list[str]:
    if flag.kind is not bool:
        return [f"--{key}={value}" for value in values]
    if not values:
        return []
    value = values[0].lower()
    if value not in (*TRUE, *FALSE):
        raise InputError(f"{key} is {values[0]!r}", where=where, expected="true or false")
    if value in TRUE:
        return [f"--{key}"]
    opposite = [name for name in flag.names if name != f"--{key}" and name.startswith("--")]
    return opposite[:1] if flag.default is not False else []
