"""Requests as manifests hold them, and their comparison.

A request has the tool and its arguments, with the fingerprints of inputs.
"""

from pathlib import Path
from typing import cast

from drtools.errors import InputError, param
from drtools.outputs.disk import read_json
from drtools.outputs.records import checked, parse_json
from drtools.outputs.specs import Request


def add_change(request: Request, words: str) -> None:
    """Record that this version computes something different from an earlier version for the same arguments.

    Unfinished work of the earlier version is then not continued, and its finished output does not count as done.
    `words` is a clause that describes what is computed now.
    """
    request.setdefault("changes", []).append(words)


def differences(then: Request, now: Request) -> str:
    """Describe how two requests differ: arguments, contents of inputs, and changes between versions."""
    if then.get("tool") != now["tool"]:
        return f"it was made by {then.get('tool')}, this is {now['tool']}"
    words = []
    for name in sorted({*then["arguments"], *now["arguments"]}):
        before, after = then["arguments"].get(name), now["arguments"].get(name)
        if _content(before) == _content(after):
            continue
        if isinstance(before, list) and isinstance(after, list) and len(before) == len(after) == 1:
            (before,), (after,) = before, after
        if isinstance(before, dict) and isinstance(after, dict) and _same_path(before.get("path"), after.get("path")):
            words.append(f"{param(name)}: the content of {after.get('path')} has changed")
        else:
            words.append(f"{param(name)}: {_word(before)} then, {_word(after)} now")
    words += [f"since then {change}" for change in now.get("changes", ()) if change not in then.get("changes", ())]
    return "; ".join(words)


def _same_path(then: str | None, now: str | None) -> bool:
    """Return whether both may be the same path. Models keep only the name of an absolute path."""
    return then == now or (now is not None and Path(now).is_absolute() and then == Path(now).name)


def _word(value: object) -> str:
    if isinstance(value, dict) and "path" in value:
        return "standard input" if value["path"] == "-" else str(value["path"])
    return str(value)


def same(then: Request, now: Request) -> bool:
    """Return whether two requests are equal, wherever their inputs are.

    An argument that was not given equals one that the other version does not have.
    """
    return _content(_given(then)) == _content(_given(now))


def _given(request: Request) -> Request:
    given = {name: value for name, value in request["arguments"].items() if value is not None and value is not False}
    return {**request, "arguments": given}


def _content(value: object) -> object:
    """Return a request with each input reduced to its fingerprint, so that a moved file is the same input.

    An argument without a value is left out, since a version that does not know it computes the same.
    """
    if isinstance(value, dict):
        return (
            value["fingerprint"]
            if value.get("fingerprint")
            else {key: _content(item) for key, item in value.items() if item is not None}
        )
    return [_content(item) for item in value] if isinstance(value, list) else value


def begun_request(path: Path) -> Request:
    """Read the request of unfinished work. Raises InputError if the file does not hold one."""
    remedy = f"move {path.parent} away, or use {param('overwrite')} to start afresh"
    request = read_json(path, remedy=remedy)
    checked(request.get("arguments"), dict, path, remedy)
    return cast(Request, request)


def request_in(path: Path) -> Request | None:
    """Return the request in a manifest. Returns None if there is no file, or another program's."""
    try:
        record = parse_json(path.read_bytes(), path)
    except (FileNotFoundError, InputError):
        return None
    request = record.get("request") if isinstance(record, dict) and "fingerprint" in record else None
    if isinstance(request, dict) and isinstance(request.get("arguments"), dict) and "tool" in request:
        return cast(Request, request)
    return None
