"""Compare BM25 mining with pyserini's batch_search: the same index, queries and depth, alternately as processes.

    python benchmarks/mining.py DATA/wikipedia [--depth 200] [--rounds 3]

drtools reads queries and judgements, searches, removes positives, selects negatives and writes examples with scores.
The other reads the queries, searches, and leaves the hits in Java.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drtools.java import choose_java_home

BARE = """
import sys, gzip, json, jnius_config, pyserini.setup
jnius_config.set_options()
from pyserini.search.lucene import LuceneSearcher
index, queries, qrels, depth, threads = sys.argv[1:]
judged = {line.split()[0] for line in open(qrels)}
rows = [(row["_id"], row["text"]) for row in map(json.loads, gzip.open(queries, "rt")) if row["_id"] in judged]
texts, names = [text for _, text in rows], [name for name, _ in rows]
LuceneSearcher(index).batch_search(texts, names, k=int(depth), threads=int(threads))
"""


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Run a command. Returns its wall-clock seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--depth", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    environment = {**os.environ, "JAVA_HOME": str(choose_java_home()), "OPENAI_API_KEY": "none"}
    queries, qrels = arguments.data / "queries.jsonl.gz", arguments.data / "qrels/train.tsv"
    tool = [sys.executable, "-m", "drtools"]
    with tempfile.TemporaryDirectory() as folder:
        index = f"{folder}/bm25"
        subprocess.run(
            [*tool, "index", "--quiet", "--corpus", str(arguments.data / "corpus.jsonl.gz"), "-o", index], check=True
        )
        ours, theirs = [], []
        for _ in range(arguments.rounds):
            theirs.append(
                seconds(
                    [
                        sys.executable,
                        "-c",
                        BARE,
                        f"{index}/lucene",
                        str(queries),
                        str(qrels),
                        str(arguments.depth),
                        "2",
                    ],
                    environment,
                )
            )
            ours.append(
                seconds(
                    [
                        *tool,
                        "mine-negatives",
                        "--index",
                        index,
                        "--queries",
                        str(queries),
                        "--qrels",
                        str(qrels),
                        "--ranks",
                        f"1-{arguments.depth}",
                        "-o",
                        f"{folder}/examples.jsonl",
                        "--overwrite",
                    ],
                    environment,
                )
            )
    ratios = sorted(mine / bare for mine, bare in zip(ours, theirs, strict=True))
    print(
        f"depth {arguments.depth}: mine-negatives {statistics.median(ours):.1f} s, bare batch_search "
        f"{statistics.median(theirs):.1f} s, "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
