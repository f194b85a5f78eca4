"""Show what a file or folder is, what is in it, and what it was made from.

    drtools show examples.jsonl
    drtools show star.run --depth 3
    drtools show index

Shows a file or `-` (examples, a run, judgements, a corpus, queries, a log), a folder (vectors, an index, an encoder, a
relevance module, a cross-encoder, a lexical encoder), a published link, or a manifest. Texts come from the corpus and
the queries that it was made from, according to the manifests, or from --corpus and --queries. The tree at the end lists
all inputs, their inputs, and so on back to the corpus, and marks those that have changed or are gone. Of a published
link the history follows: the last publications with their counts and measures.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from drtools import units
from drtools.cli.flags.common import Role
from drtools.cli.show.kinds import MODELS, artefact_kind
from drtools.cli.show.lineage import ancestors, lineage_lines, made_by, manifest_of
from drtools.cli.terminal import terminal_width, wrapped
from drtools.formats.lines import local, shown
from drtools.outputs import manifest
from drtools.outputs.versions import pinned


def main(
    what: Annotated[str, Argument(help="file or folder to show; `-`: standard input")],
    corpus: Annotated[
        str | None, Option(help="corpus with the texts of the documents; default: the one it was made from"), Role.INPUT
    ] = None,
    queries: Annotated[
        str | None,
        Option(help="queries file with the texts of the queries; default: the one it was made from"),
        Role.INPUT,
    ] = None,
    query: Annotated[str | None, Option(help="id of a query to show instead of the first ones")] = None,
    count: Annotated[int, Option(min=0, help="number of queries, rows or documents to show")] = 3,
    depth: Annotated[int, Option(min=1, help="number of documents to show for each query")] = 5,
) -> None:
    """Print what an artefact is, what is in it, and what it was made from."""
    from drtools.cli.show.folders import release_lines, size_of
    from drtools.cli.show.history import history_lines

    width = terminal_width(sys.stdout)

    def say(line: str) -> None:
        print(wrapped(line, width, later=" " * (len(line) - len(line.lstrip()) + 4)))

    path = described(Path(local(what)))
    kind = artefact_kind(path)
    record = manifest_of(path) or {}
    say(
        f"{shown(path)}: {kind}, {units.bytes_as_words(size_of(path))}"
        + (f", made by {made_by(record)}" if record else "")
    )
    for line in release_lines(path):
        say(line)
    for name, value in (record.get("counts") or {}).items():
        say(f"{name}: {value:,}")
    for text in record.get("notices", ()):
        say(f"note: {text}")
    pinned_path = Path(pinned(str(path), {}))  # so that ids and texts are of one version
    for line in content(pinned_path, kind, corpus, queries, query, count, depth):
        say(line)
    arguments = record.get("request", {}).get("arguments", {})
    unused = unused_settings(path, arguments)
    said = {
        name: value
        for name, value in arguments.items()
        if value not in (None, False, [], "") and not is_input(value) and name not in unused
    }
    if said:
        say("with " + ", ".join(f"{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in said.items()))
    tree = list(lineage_lines(path))
    if tree:
        say("made from")
    for line in tree:
        say(line)
    for line in history_lines(path, width):
        print(line)


def described(path: Path) -> Path:
    """Return the artefact that a manifest describes, or the path itself."""
    if path.name == manifest.NAME:
        return path.parent
    return (
        path.with_name(path.name.removesuffix(f".{manifest.NAME}")) if path.name.endswith(f".{manifest.NAME}") else path
    )


def unused_settings(path: Path, arguments: dict[str, object]) -> set[str]:
    """Return the settings of BM25 and RM3 that a search recorded and did not use."""
    unused = set() if arguments.get("rm3") else {"rm3_terms", "rm3_documents", "rm3_original_weight"}
    indexes = (each.place for each in ancestors(path, ("index",)) if each.depth == 1 and each.place)
    is_dense = any((manifest_of(index) or {}).get("kind") in ("faiss", "milvus") for index in indexes)
    return unused | ({"k1", "b"} if is_dense or arguments.get("vectors") or arguments.get("rerank") else set())


def is_input(value: object) -> bool:
    """Whether an argument of a request is a file or folder, which the tree lists."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def content(
    path: Path, kind: str, corpus: str | None, queries: str | None, query: str | None, count: int, depth: int
) -> Iterator[str]:
    """Return the lines that show what is in an artefact."""
    from drtools.cli.show import files, folders

    of_queries = {"examples": files.example_lines, "run": files.run_lines, "judgements": files.judgement_lines}
    if kind in of_queries:
        return of_queries[kind](path, files.texts_behind(path, corpus, queries), query, count, depth)
    if kind in ("vectors", "faiss", "lucene", "milvus"):
        show = folders.vector_lines if kind == "vectors" else folders.index_lines
        return show(path, files.texts_behind(path, corpus, queries), count)
    if kind in MODELS:
        return folders.model_lines(path)
    if kind == "release":
        return folders.part_lines(path)
    if kind == "texts":
        return files.text_lines(path, count)
    return files.raw_lines(path, count) if path.is_file() else iter(f"  {file.name}" for file in sorted(path.iterdir()))
