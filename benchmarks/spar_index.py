"""Index size and query time of a base encoder, of SPAR and of the base fused with BM25 (Chen et al. 2022, 4.3).

    python benchmarks/spar_index.py QUERIES --base base-vectors --joined spar-vectors --bm25 bm25 [--factory Flat
    --factory HNSW32]

The folders are those of examples/spar. Query vectors are computed before, since encoding costs the same for each system
except for the second encoder, whose time is printed separately. Times are those of searches, one query at a time in one
thread, medians of --rounds. A fusion searches both indexes and adds scores.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.formats.corpora import read_queries
from drtools.formats.ids import Ids
from drtools.formats.vectors import open_vectors
from drtools.models.device import set_threads
from drtools.search import faiss_index
from drtools.search.fusion import normalized_scores, weigh
from drtools.search.query_vectors import open_queries
from drtools.search.sources import LuceneSource

DEPTH = 100


def milliseconds(search: Callable[[int], object], count: int, rounds: int) -> float:
    """Return the median over rounds of the mean time of a query, after a round for warming up."""
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for query in range(count):
            search(query)
        times.append(1000 * (time.perf_counter() - started) / count)
    return statistics.median(times[1:])


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of a folder's files."""
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queries", type=Path)
    for name in ("--base", "--joined", "--bm25"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--factory", action="append")
    parser.add_argument("--count", type=int, default=200, help="queries to ask")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    set_threads(1)
    queries = list(read_queries(arguments.queries).items())[: arguments.count]
    lucene = LuceneSource(str(arguments.bm25), threads=1)

    def by_words(query: int) -> dict[str, float]:
        return next(iter(lucene.search([queries[query]], DEPTH, {}))).hits

    words = milliseconds(by_words, len(queries), arguments.rounds)
    lucene_size = size_of(arguments.bm25 / "lucene")
    print(
        f"| index | system | MB | ms a query |\n|---|---|---|---|\n| Lucene | BM25 | {lucene_size / 1e6:.1f} | "
        f"{words:.2f} |"
    )
    with tempfile.TemporaryDirectory() as folder:
        for factory in arguments.factory or ["Flat", "HNSW32"]:
            for name, path in {"base": arguments.base, "SPAR": arguments.joined}.items():
                opened = open_vectors(path)
                file = Path(folder) / f"{name}-{factory}.faiss"
                faiss_index.build(opened.array, factory, file, threads=0)
                index, ids = faiss_index.load(file), Ids(path / "ids.txt")
                encoder = open_queries(opened.manifest, path, EncoderFlags(), ComputeFlags(threads=1))
                encoder.encode(queries[:1])  # loads the models
                started = time.perf_counter()
                vectors = encoder.encode(queries)
                encoding = 1000 * (time.perf_counter() - started) / len(queries)

                def dense(query: int, index=index, ids=ids, vectors=vectors) -> dict[str, float]:
                    scores, rows = faiss_index.search_index(
                        index, np.ascontiguousarray(vectors[query : query + 1]), DEPTH
                    )
                    return {
                        ids[row]: float(score)
                        for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True)
                        if row >= 0
                    }

                taken = milliseconds(dense, len(queries), arguments.rounds)
                print(
                    f"| {factory} | {name}, {opened.array.shape[1]} dimensions (encoding {encoding:.1f} ms) | "
                    f"{size_of(file) / 1e6:.1f} | {taken:.2f} |"
                )
                if name == "base":
                    both = milliseconds(
                        lambda query: weigh(
                            normalized_scores([dense(query), by_words(query)], "none", "lowest"), [1.0, 0.1], DEPTH
                        ),
                        len(queries),
                        arguments.rounds,
                    )
                    print(
                        f"| {factory} + Lucene | base + BM25 | {(size_of(file) + lucene_size) / 1e6:.1f} | {both:.2f} |"
                    )


if __name__ == "__main__":
    main()
