"""Compare encode --update and index --update, with 1% changed, with doing everything.

It compares the bytes, and the time of whole processes.

    python benchmarks/update.py DATA/scifact/corpus.jsonl.gz [--texts 5183] [--share 0.01] [--rounds 3] [--precision
    bf16] [--factory IVF64,Flat]

Of the changed share, half are texts that change by a word, a quarter are new, and a quarter are removed. Seconds in
brackets are the tool's work without starting Python and loading the model. Exits with 1 if the updated folder differs
from the full one.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drtools.formats.corpora import read_corpus

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SAME = {"encode": ("vectors.npy", "ids.txt", "texts.npy"), "index": ("index.faiss", "ids.txt", "digests.npy")}


def write(path: Path, documents: list[dict]) -> None:
    """Write a corpus."""
    path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")


def a_day_later(documents: list[dict], share: float) -> list[dict]:
    """Return the documents with a share of them changed, removed or new, at random places."""
    generator = random.Random(7)
    documents = [dict(document) for document in documents]
    quarter = max(1, round(len(documents) * share / 4))
    chosen = generator.sample(range(len(documents)), 3 * quarter)
    for row in chosen[: 2 * quarter]:
        documents[row]["text"] += " Corrected."
    gone = set(chosen[2 * quarter :])
    new = [{"_id": f"new-{row}", "title": "New", "text": documents[row]["text"][::2]} for row in gone]
    kept = [document for row, document in enumerate(documents) if row not in gone]
    for document in new:
        kept.insert(generator.randrange(len(kept)), document)
    return kept


def run(folder: Path, output: str, *words: object) -> tuple[float, float]:
    """Run a tool. Returns the seconds of the process and of its work."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "drtools", *map(str, words), "-o", str(folder / output), "--overwrite", "--quiet"],
        check=True,
        env={**os.environ, "DRTOOLS_CACHE": str(folder / "cache")},
    )
    return time.perf_counter() - started, json.loads((folder / output / "manifest.json").read_text())["seconds"]


def main() -> None:
    """Print a line for each tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--texts", type=int)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--factory", default="IVF64,Flat")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        documents = [
            {"_id": document.id, "title": document.title, "text": document.text}
            for _, document in read_corpus(arguments.corpus)
        ][: arguments.texts]
        write(folder / "old.jsonl", documents)
        write(folder / "new.jsonl", a_day_later(documents, arguments.share))
        encode = ["encode", "--model", MODEL, "--precision", arguments.precision, "--corpus"]
        run(folder, "old", *encode, folder / "old.jsonl")
        whole = {
            "encode": [*encode, folder / "new.jsonl"],
            "index Flat": ["index", "--vectors", folder / "encode full"],
        }
        whole[f"index {arguments.factory}"] = [*whole["index Flat"], "--factory", arguments.factory]
        for what, command in whole.items():
            earlier = folder / "old"
            if what != "encode":
                earlier = folder / f"old {what}"
                run(folder, earlier.name, "index", "--vectors", folder / "old", "--factory", what.split()[1])
            seconds = {"full": [], "update": []}
            for _ in range(arguments.rounds):
                seconds["full"].append(run(folder, f"{what} full", *command))
                seconds["update"].append(run(folder, f"{what} update", *command, "--update", earlier))
            same = all(
                (folder / f"{what} full" / file).read_bytes() == (folder / f"{what} update" / file).read_bytes()
                for file in SAME[what.split()[0]]
            )
            record = json.loads((folder / f"{what} update" / "manifest.json").read_text())
            work = [
                f"{statistics.median(process):.1f} s ({statistics.median(own):.1f})"
                for process, own in (zip(*seconds[kind], strict=True) for kind in ("full", "update"))
            ]
            ratio = statistics.median(
                one[0] / other[0] for one, other in zip(seconds["full"], seconds["update"], strict=True)
            )
            print(
                f"{what}: {record['count']:,} rows; full {work[0]}, update {work[1]}, {ratio:.1f} times; the same "
                f"bytes: {same}; {'; '.join(record['notices'])}",
                flush=True,
            )
            if not same and "IVF" not in what:  # whose lists keep the centroids of the earlier training
                sys.exit(1)


if __name__ == "__main__":
    main()
