"""Measure memory at ten times the documents: the peak of each tool's own (anonymous) memory, sampled.

    python benchmarks/memory.py [--documents 20000]

Memory-mapped files do not count, since the system frees them when it needs memory. A small random BERT encodes, so that
the tools are measured and not the model. Prints the additional bytes per document.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
TOOL = [sys.executable, "-m", "drtools"]


def peak(command: list[str], environment: dict[str, str]) -> int:
    """Run a command. Returns the peak of its anonymous memory in bytes."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        except FileNotFoundError:
            break
        most = max(most, int(found[1]) * 1024 if found else 0)
        time.sleep(0.01)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    return most


def write_corpus(path: Path, documents: int, words: list[str]) -> None:
    """Write documents of 5 to 30 words."""
    generator = random.Random(5)
    with open(path, "w") as stream:
        for number in range(documents):
            stream.write(
                json.dumps(
                    {
                        "_id": f"document-{number}",
                        "text": " ".join(generator.choices(words, k=generator.randint(5, 30))),
                    }
                )
                + "\n"
            )


def measure(folder: Path, documents: int, model: str, words: list[str]) -> dict[str, int]:
    """Return each tool's peak on a corpus of this size, with the same queries."""
    corpus, queries, qrels = folder / "corpus.jsonl", folder / "queries.tsv", folder / "qrels.tsv"
    write_corpus(corpus, documents, words)
    queries.write_text("".join(f"q{n}\tfox {words[n % len(words)]}\n" for n in range(200)))
    qrels.write_text("".join(f"q{n} 0 document-{n} 1\n" for n in range(200)))
    environment = {**os.environ, "DRTOOLS_CACHE": str(folder / "cache"), "MALLOC_ARENA_MAX": "2"}
    run = lambda *command: peak([*TOOL, *map(str, command), "--quiet"], environment)  # noqa: E731
    store = [sys.executable, "-c", f"from drtools.formats.corpus_store import open_store; open_store({str(corpus)!r})"]
    peaks = {"store": peak(store, environment)}
    peaks["index --corpus"] = run("index", "--corpus", corpus, "-o", folder / "bm25")
    peaks["encode"] = run("encode", "--model", model, "--corpus", corpus, "--chunk", 4096, "-o", folder / "vectors")
    mine = ("mine-negatives", "--queries", queries, "--qrels", qrels, "-o")
    peaks["mine-negatives --index (BM25)"] = run(*mine, folder / "a", "--index", folder / "bm25")
    peaks["mine-negatives --vectors"] = run(*mine, folder / "b", "--vectors", folder / "vectors", "--model", model)
    return peaks


def main() -> None:
    """Print the table."""
    from conftest import WORDS, make_bert

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20000)
    documents = parser.parse_args().documents
    with tempfile.TemporaryDirectory() as folder:
        model = make_bert(Path(folder) / "bert")
        (Path(model) / "modules.json").write_text(
            json.dumps([{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}])
        )
        sizes = {}
        for count in (documents, 10 * documents):
            (Path(folder) / str(count)).mkdir()
            sizes[count] = measure(Path(folder) / str(count), count, model, WORDS)
    print(f"{'MB at':<32} {documents:>10,} {10 * documents:>10,}   bytes a document more")
    for name, small in sizes[documents].items():
        large = sizes[10 * documents][name]
        print(f"{name:<32} {small / 1e6:10.0f} {large / 1e6:10.0f}   {(large - small) / (9 * documents):8.1f}")


if __name__ == "__main__":
    main()
