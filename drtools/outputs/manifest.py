"""Manifests: what an output is, what it was made from, and whether it has changed since."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drtools.errors import InputError, param
from drtools.outputs.contents import PUBLICATION, TEXTS, check_content, check_sizes, is_unchanged
from drtools.outputs.disk import read_json
from drtools.outputs.fingerprints import content_fingerprint, file_fingerprint
from drtools.outputs.records import (
    COUNT,
    DAMAGED,
    FLAG,
    INTEGER,
    LARGEST,
    NUMBER,
    OBJECT,
    PATH,
    TEXT,
    WHOLE,
    Kind,
    Record,
    check_kinds,
    list_of,
    map_of,
    object_of,
    one_of,
    optional,
)

NAME = "manifest.json"


def _is_argument(value: object) -> bool:
    """Return whether a value can be an argument. An input has a path, and a fingerprint if it was a file."""
    if isinstance(value, list):
        return all(map(_is_argument, value))
    if isinstance(value, int) and abs(value) > LARGEST:
        return False
    return not isinstance(value, dict) or "path" not in value or _INPUT.fits(value)


_INPUT = object_of({"path": PATH, "fingerprint": optional(TEXT)})
_ARGUMENTS = map_of(Kind(_is_argument, "a flag's value, or an input with its path"))
KINDS: dict[str, Kind] = {  # keys that are read again, in the manifest of any output
    **dict.fromkeys(("tool", "version", "created", "kind", "fingerprint", "model", "factory", "language"), TEXT),
    **dict.fromkeys(("query_fingerprint", "document_fingerprint", "tuned_for"), TEXT),
    **dict.fromkeys(
        ("corpus", "title_separator", "document_model", "base", "body", "precision", "dtype", "head"), optional(TEXT)
    ),
    **dict.fromkeys(("seconds", "training_seconds"), NUMBER),
    "scale": optional(NUMBER),
    **dict.fromkeys(("count", "empty", "new_since_training", "steps", "head_steps", "processes"), WHOLE),
    **dict.fromkeys(("max_tokens", "max_query_tokens", "max_document_tokens"), optional(WHOLE)),
    **dict.fromkeys(("normalized", "document_vectors"), FLAG),
    **dict.fromkeys(("dimension", "truncate_dimension"), COUNT),
    "matryoshka": list_of(COUNT),
    "side": one_of("query", "document"),
    "notices": list_of(TEXT),
    "texts": map_of(TEXT),
    "counts": map_of(Kind(lambda value: NUMBER.fits(value) or FLAG.fits(value), "a number")),  # true counts as one
    "files": map_of(object_of({"bytes": WHOLE, "fingerprint": TEXT}, ("bytes", "fingerprint"))),
    "request": object_of({"tool": TEXT, "arguments": _ARGUMENTS}, needed=("tool", "arguments")),
    "recall": optional(object_of({"depth": COUNT, "queries": WHOLE, "value": NUMBER}, ("depth", "queries", "value"))),
    "best": optional(object_of({"measure": TEXT, "value": NUMBER, "step": INTEGER}, ("measure", "value", "step"))),
    "tried": list_of(
        Kind(lambda value: list_of(NUMBER, 2).fits(value) or map_of(NUMBER).fits(value), "a pair of numbers")
    ),
    "adapted_on": list_of(OBJECT),
    "refused": list_of(OBJECT),
    "part": OBJECT,
    "gathered": list_of(OBJECT),
}
KINDS["joined"] = object_of(
    {"how": one_of("concat", "sum"), "mu": NUMBER, "parts": list_of(object_of(KINDS), 2)}, ("how", "mu", "parts")
)


def read_manifest(path: Path, remedy: str = DAMAGED) -> Record:
    """Read the file of a manifest. Raises InputError if it was damaged."""
    return read_json(path, KINDS, remedy)


def fingerprint(path: str | Path) -> str:
    """Return the fingerprint of the content of a file or a folder.

    A folder's fingerprint is read from its manifest, unless a file may have changed after the manifest was written.
    """
    path = Path(path)
    if not path.is_dir():
        return file_fingerprint(path)
    beside_content = (path / TEXTS, path / PUBLICATION)
    files = [file for file in path.rglob("*") if file not in beside_content and file.is_file()]
    where = path / NAME
    record = read_manifest(where) if where in files else Record({}, where)
    if "fingerprint" not in record:
        return content_fingerprint(path, files)
    files.remove(where)
    written = where.stat().st_ctime_ns
    if record.get("kind") == "release" or all(file.stat().st_ctime_ns < written for file in files):
        return str(record["fingerprint"])
    if "files" in record and is_unchanged(path, record):
        return str(record["fingerprint"])
    return content_fingerprint(path, files)


def checked_fingerprint(path: Path) -> str:
    """Return the fingerprint of an input. Raises InputError if it is an output of drtools that was changed.

    The manifest next to a file is compared too; remove the manifest if the file was changed on purpose.
    """
    found, where = fingerprint(path), beside(path)
    try:
        record = read_json(where) if where.is_file() else {}
    except InputError:
        if path.is_dir():
            raise
        return found  # another program's file of that name
    ours = "request" in record and ("files" in record if path.is_dir() else True)
    if ours and record.get("kind") != "release" and record.get("fingerprint", found) != found:
        check_kinds(record, {"files": KINDS["files"]}, where)
        check_sizes(path, record, MAKE_AGAIN.format(where))
        raise InputError("its content was changed after it was made", where=path, remedy=MAKE_AGAIN.format(where))
    return found


MAKE_AGAIN = "make it again, or remove {} if the change is meant"


def check_whole(path: Path, record: Mapping[str, Any], remedy: str) -> None:
    """Raise InputError if an output differs from its manifest. Content is read only where it may have changed."""
    check_sizes(path, record, remedy)
    if path.is_dir():
        check_content(path, record, path / NAME, record.get("files") or {}, remedy)
    elif "fingerprint" in record and file_fingerprint(path) != record["fingerprint"]:
        raise InputError("its content was changed after it was made", where=path, remedy=remedy)


def beside(path: Path) -> Path:
    """Return the path of an output's manifest: inside a folder, next to a file."""
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


def read(path: str | Path) -> Record:
    """Read the manifest of an output. Raises InputError if there is none, since the output was then never finished."""
    path = Path(path)
    if not path.exists():
        raise InputError("no such file or folder", where=path)
    where = beside(path)
    if not where.exists():
        raise InputError(
            f"no {where.name} was found, so this is not a finished output of drtools", where=path, remedy=_advice(path)
        )
    record = read_manifest(where)
    check_sizes(path, record, "make it again")
    return record


def _advice(path: Path) -> str:
    """Return a remedy for a folder or file without a manifest, depending on what it holds."""
    found = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if any(name.endswith(".npy") for name in found):
        return f"copy it whole, or adopt vectors of another program with `drtools convert {param('vectors')}`"
    if any(name.endswith((".faiss", ".index")) for name in found):
        return f"copy it whole, or build an index of your vectors with `drtools index {param('vectors')}`"
    if "lucene" in found or any(name.startswith("segments_") for name in found):
        return f"copy it whole, or build a Lucene index of your corpus with `drtools index {param('corpus')}`"
    return "copy it whole, or make it again"
