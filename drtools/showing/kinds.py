"""What an artefact is: by its manifest, else by what lies in it."""

from pathlib import Path

import orjson

from drtools import manifest
from drtools.errors import UserError
from drtools.formats.lines import decode, read_lines
from drtools.models.module_files import optional_json
from drtools.models.settings import OURS

MODELS = ("encoder", "rem", "ranker")


def kind_of(path: Path) -> str:
    """Return what an artefact is, or raise UserError for what is none of ours.

    It is `examples`, `run`, `texts`, `judgements`, `answers`, `log`, `vectors`, `faiss`, `lucene`, `encoder`, `rem`,
    `ranker`, `release`, or another word of a manifest.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    beside = manifest.beside(path)
    named = manifest.read_json(beside).get("kind") if beside.exists() else None
    if named and named != "queries":
        return named
    return _kind_of_folder(path) if path.is_dir() else "texts" if named else _kind_of_lines(path)


def _kind_of_folder(path: Path) -> str:
    ours = optional_json(path / OURS).get("kind")
    if ours:
        return "encoder" if ours in ("pair", "lexical") else ours
    if (path / "config.json").exists():
        return "encoder"
    raise UserError(
        f"{path}: neither a manifest.json nor a model's config.json was found; show takes what a tool here made, a "
        "model, or a file of its inputs"
    )


def _kind_of_lines(path: Path) -> str:
    number, line = next(read_lines(path), (1, b""))
    if not line:
        raise UserError(f"{path}: found no line in it; show takes JSONL, TSV, TREC's forms, and what a tool here made")
    if line.startswith(b"{"):
        try:
            keys = orjson.loads(line).keys()
        except orjson.JSONDecodeError:
            raise UserError(
                f"{path}:{number}: not one JSON object a line; show takes JSONL, TSV, TREC's forms, and what a tool "
                "here made"
            ) from None
        for key, kind in {"positives": "examples", "answers": "answers", "step": "log"}.items():
            if key in keys:
                return kind
        return "texts"
    text = decode(line, path, number)
    columns = len(text.split())
    if columns == 6 and text.split()[1] in ("Q0", "0"):
        return "run"
    tabs = text.count("\t")  # none, or one between each two columns: else `q1<TAB>windows 10` would be judgements
    if (columns in (3, 4) and tabs in (0, columns - 1) and text.split()[-1].lstrip("-").isdigit()) or text.split()[
        -1:
    ] == ["score"]:
        return "judgements"
    if "\t" in text:
        return "texts"
    raise UserError(
        f"{path}:{number}: found {text[:60]!r}; show takes JSONL, TSV, TREC's forms, and what a tool here made"
    )
