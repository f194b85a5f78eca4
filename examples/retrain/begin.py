#!/usr/bin/env python3
"""Begin a run of retraining: a folder with a copy of all that it will read, the published version among it.

Nothing is done if an earlier run began with the same data and settings: it is to be continued, or it is done. Documents
are those of the corpus and of the files dropped beside it, by name; the last line of an id holds, and with `"deleted":
true` takes it out.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path


def found(folder: Path, name: str) -> Path:
    """Return a file of a folder, packed or plain."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.exists():
            return path
    raise SystemExit(f"retrain: {folder / name}: no such file, nor {name}.gz; DATA is a folder in BEIR's form")


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that is packed or plain."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
        for line in stream:
            if line.strip():
                yield line.rstrip(b"\r\n") + b"\n"


def documents(paths: list[Path]) -> Iterator[bytes]:
    """Yield each document's last line, in the order of these lines."""
    last: dict[str, tuple[int, int] | None] = {}
    for place, path in enumerate(paths):
        for number, line in enumerate(lines(path), start=1):
            try:
                record = json.loads(line)
                last[str(record["_id"])] = None if record.get("deleted") is True else (place, number)
            except (ValueError, TypeError, KeyError):
                raise SystemExit(
                    f'retrain: {path}:{number}: found {line[:60]!r}, expected {{"_id", "title", "text"}}; mend the '
                    "file, then run again"
                ) from None
    kept = set(last.values())
    for place, path in enumerate(paths):
        yield from (line for number, line in enumerate(lines(path), start=1) if (place, number) in kept)


def listed(paths: list[Path], settings: list[str]) -> str:
    """Return what a run depends on as text: a line for each file, by content, and for each setting."""
    hashes = []
    for path in paths:
        with open(path, "rb") as stream:
            hashes.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path}")
    return "\n".join([*hashes, *settings, ""])


def copy_inputs(data: Path, corpus: list[Path], live: Path, target: Path) -> None:
    """Fill a new folder.

    The corpus, queries, judgements, and what the link names, by hard links where the file system allows.
    """
    shutil.rmtree(target, ignore_errors=True)
    (target / "qrels").mkdir(parents=True)
    with open(target / "corpus.jsonl", "wb") as stream:
        stream.writelines(documents(corpus))
    with open(target / "queries.jsonl", "wb") as stream:
        stream.writelines(lines(found(data, "queries.jsonl")))
    for path in (data / "qrels").glob("*.tsv"):
        shutil.copyfile(path, target / "qrels" / path.name)
    if live.exists():
        shutil.copytree(
            live.resolve(),
            target,
            dirs_exist_ok=True,
            copy_function=link_or_copy,
            ignore=shutil.ignore_patterns("index", "texts*.sqlite"),
        )
        (target / "manifest.json").unlink()


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name, or copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def main() -> None:
    """Compare what a run depends on with what the last one began with; begin anew if it differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="words that a run depends on beside its data")
    parser.add_argument("--data", type=Path, required=True, help="folder in BEIR's form")
    parser.add_argument("--arrivals", default="", help="folder where files of documents are dropped")
    parser.add_argument("--live", type=Path, required=True, help="the published link")
    parser.add_argument("--forget", type=Path, required=True, help="folder that only serves the run before")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arrived = (
        sorted(path for path in Path(arguments.arrivals).iterdir() if path.name.endswith((".jsonl", ".jsonl.gz")))
        if arguments.arrivals
        else []
    )
    corpus = [found(arguments.data, "corpus.jsonl"), *arrived]
    files = [*corpus, found(arguments.data, "queries.jsonl"), *sorted((arguments.data / "qrels").glob("*.tsv"))]
    inputs, target = listed(files, arguments.settings), arguments.output
    known = target / "inputs"
    if known.exists() and known.read_text() == inputs:
        return
    fresh = target.with_name(target.name + ".new")
    copy_inputs(arguments.data, corpus, arguments.live, fresh)
    (fresh / "inputs").write_text(inputs)
    shutil.rmtree(arguments.forget, ignore_errors=True)
    known.unlink(missing_ok=True)  # first, so that a folder half removed is never taken for this run's
    shutil.rmtree(target, ignore_errors=True)
    os.rename(fresh, target)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"retrain: {error.filename or 'begin'}: {error.strerror}; nothing was begun, run again")
