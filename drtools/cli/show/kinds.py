"""The kind of an artefact, by its manifest or else by its content."""

from pathlib import Path

import orjson

from drtools.errors import InputError
from drtools.formats.json_lines import json_advice
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.trec import looks_like_judgements
from drtools.models.json_files import own_settings
from drtools.outputs import manifest

MODELS = ("encoder", "rem", "ranker")
TAKEN = "show takes JSONL, TSV and TREC files, and the outputs of drtools"


def artefact_kind(path: Path) -> str:
    """Return the kind of an artefact, or raise InputError for an unknown one.

    It is `examples`, `run`, `texts`, `judgements`, `answers`, `log`, `vectors`, `faiss`, `lucene`, `encoder`, `rem`,
    `ranker`, `release`, or another word of a manifest.
    """
    if not path.exists():
        raise InputError("no such file or folder", where=path)
    beside = manifest.beside(path)
    named: str | None = manifest.read_manifest(beside).get("kind") if beside.exists() else None
    if named and named not in ("queries", "corpus"):
        return named
    return _kind_of_folder(path) if path.is_dir() else "texts" if named else _kind_of_lines(path)


def _kind_of_folder(path: Path) -> str:
    ours = own_settings(path).get("kind")
    if ours:
        return "encoder" if ours in ("pair", "lexical") else ours
    if (path / "config.json").exists():
        return "encoder"
    raise InputError(
        "neither a manifest.json nor a model's config.json was found",
        where=path,
        remedy="show takes the outputs of drtools, models, and input files",
    )


def _kind_of_lines(path: Path) -> str:
    number, line = next(read_lines(path), (1, b""))
    if not line:
        raise InputError("the file is empty", where=shown(path), remedy=TAKEN)
    if line.lstrip()[:1] in (b"{", b"["):
        decode(line, path, number)
        try:
            keys = orjson.loads(line)
        except orjson.JSONDecodeError:
            advice = json_advice(line) or TAKEN
            raise InputError("not one JSON object per line", where=f"{shown(path)}:{number}", remedy=advice) from None
        for key, kind in {"positives": "examples", "answers": "answers", "step": "log"}.items():
            if key in keys:
                return kind
        return "texts"
    text = decode(line, path, number)
    columns = text.split()
    if len(columns) == 6 and columns[1] in ("Q0", "0"):
        return "run"
    if looks_like_judgements(text):
        return "judgements"
    if "\t" in text:
        return "texts"
    raise InputError(f"found {text[:60]!r}", where=f"{shown(path)}:{number}", remedy=TAKEN)
