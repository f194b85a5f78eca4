"""Requests, as manifests hold them: the tool and its arguments, inputs by their fingerprints.

Whether two are the same, and how not.
"""

from pathlib import Path

import orjson

from drtools.formats.lines import shown


def differences(then: dict, now: dict) -> str:
    """Say in words what is asked for now and was not then: flags, and inputs whose content is another."""
    if then.get("tool") != now["tool"]:
        return f"it is the work of {then.get('tool')}, this is {now['tool']}"
    words = []
    for name in sorted({*then["arguments"], *now["arguments"]}):
        before, after = then["arguments"].get(name), now["arguments"].get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict) and before.get("path") == after.get("path"):
            words.append(f"--{name.replace('_', '-')}: the content of {before.get('path')} has changed")
        else:
            words.append(f"--{name.replace('_', '-')}: {_word(before)} then, {_word(after)} now")
    return "; ".join(words)


def _word(value: object) -> str:
    return shown(value["path"]) if isinstance(value, dict) and "path" in value else str(value)


def same(then: dict, now: dict) -> bool:
    """Return whether two requests ask for the same, wherever their inputs lie."""
    return _content(then) == _content(now)


def _content(value: object) -> object:
    """Return a request with each input reduced to its fingerprint, so that a moved file is still the same file."""
    if isinstance(value, dict):
        return (
            value["fingerprint"] if value.get("fingerprint") else {key: _content(item) for key, item in value.items()}
        )
    return [_content(item) for item in value] if isinstance(value, list) else value


def request_in(path: Path) -> dict | None:
    """Return the request that a manifest of ours tells of; None for another program's file of that name, or none."""
    try:
        record = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    request = record.get("request") if isinstance(record, dict) and "fingerprint" in record else None
    return (
        request
        if isinstance(request, dict) and isinstance(request.get("arguments"), dict) and "tool" in request
        else None
    )
