"""Texts of a published version: one store for each corpus that its indexes and vectors were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drtools import reporting
from drtools.cli.show.lineage import CORPUS_FLAGS, manifest_of, recorded_corpus
from drtools.errors import InputError
from drtools.outputs.contents import TEXTS
from drtools.outputs.versions import own_texts

WITH_DOCUMENTS = ("vectors", "faiss", "lucene", "milvus")


def place_texts(folders: list[Path], version: Path) -> dict[str, str]:
    """Put the texts of these folders' documents into a version. Returns {folder name: file name}.

    Texts that are not available are reported with the reason. Raises InputError if notices are strict.
    """
    from drtools.formats.corpus_store import open_store

    names: dict[str, str] = {}  # file names, by the fingerprint of the corpus or the path of the texts
    placed: dict[str, str] = {}
    for folder in folders:
        found = _texts_of(folder)
        if found is None:
            continue
        path, key = found
        if key not in names:
            try:
                store = open_store(path)
            except InputError as error:  # the corpus may not have been read in full before
                _note(folder, f"its corpus cannot be read: {error}")
                continue
            if store.fingerprint not in (key, None):
                _note(folder, f"its corpus {path} has changed since")
                continue
            names[key] = f"texts-{len(names) + 1}.sqlite" if names else TEXTS
            if not (version / names[key]).exists():  # otherwise it came with the folder
                store.place(version / names[key])
        placed[folder.name] = names[key]
    reporting.check_strict()
    return placed


def _texts_of(folder: Path) -> tuple[str, str] | None:
    """Return the path and the identity of the texts of a folder's documents, None if there are none."""
    record = manifest_of(folder) or {}
    if record.get("kind") not in WITH_DOCUMENTS or record.get("side") == "query" or not record.get("corpus"):
        return None
    own = own_texts(folder)
    if own:
        return str(own), str(own.resolve())
    why = _reason(folder, record)
    if why:
        _note(folder, why)
        return None
    corpus = recorded_corpus(folder, record["corpus"])[-1]
    return str(corpus.place), str(corpus.fingerprint)


def _reason(folder: Path, record: dict[str, Any]) -> str | None:
    """Return why the texts of a folder are not available, None if its corpus has not changed."""
    way = recorded_corpus(folder, record["corpus"])
    for step in way:
        if step.state or step.place is None:
            what = f"its corpus {step.path}" if step.flag in CORPUS_FLAGS else f"{step.path}, which it was made from,"
            return f"{what} {_has_become(step.state)}"
    if not way or way[-1].flag not in CORPUS_FLAGS or way[-1].path != record["corpus"]:
        return f"its manifest does not lead to its corpus {record['corpus']}"
    return None


def _has_become(state: str) -> str:
    return f"is {state}" if state.startswith("no ") else state or "cannot be read a second time"


def _note(folder: Path, why: str) -> None:
    reporting.notice(1, f"{folder}: published without texts, because {why}; pass its corpus to see texts of its hits")
