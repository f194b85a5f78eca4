"""Measure what grows with the data at two sizes, and print where the straight line through them is at a paper's size.

    python benchmarks/scale.py [PART ...] [--small N] [--folder FOLDER]

Each measurement is a process of its own, at `--small` units and at ten times as many. Time is that of the processor
(all threads), and memory the largest growth of what the process does not share (anonymous memory), so that other work
on the machine counts little. A paper's size is the number of units in its setting.

    examples     37 million queries of 15 documents (SPAR): made once, then opened; orders of visits
    negatives    503,000 queries of 200 negatives (STAR), the same
    ids          ids by row, 8.8 million documents
    joined       the rows of one folder's vectors in another's order, 8.8 million
    cache        rows of the score cache, 480 million (FGD's pieces); also bytes on the disk and bytes written
    exact        exact search of vectors, one block of 128 queries, 8.8 million x 384
    ivf          IVF1024,Flat is trained and added to, 8.8 million x 384
    mining       exact search of 1,000 queries to depth 200, and negatives drawn from it

`--small 1000000 exact ivf mining` measures 1 and 10 million vectors; 10 million x 384 are 7.7 GB on the disk (float16),
15.4 GB of them in memory for IVF (float32).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DIMENSION, QUERIES, BATCH = 384, 128, 2048
PAPERS = {
    "examples": 37_000_000, "negatives": 503_000, "ids": 8_841_823, "joined": 8_841_823, "cache": 480_000_000,
    "exact": 8_841_823, "ivf": 8_841_823, "mining": 8_841_823,
}  # fmt: skip
SMALL = {"examples": 100_000, "negatives": 5_000, "ids": 100_000, "joined": 100_000, "cache": 50_000,
         "exact": 20_000, "ivf": 70_000, "mining": 20_000}  # fmt: skip
Measured = dict[str, float]


def anonymous_bytes() -> int:
    """Return the memory of this process that is not a file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def measured(work: Callable[[], object]) -> Measured:
    """Run some work. Returns its seconds on the processor, and by how much it raised the memory of this process."""
    ended, most = threading.Event(), [0]
    before, started = anonymous_bytes(), time.process_time()

    def watch() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    seconds = time.process_time() - started
    ended.set()
    watcher.join()
    return {"seconds": seconds, "bytes": max(0, max(most[0], anonymous_bytes()) - before)}


def corpus_of(folder: Path, count: int) -> str:
    """Write a corpus of short texts."""
    path = folder / f"corpus-{count}.jsonl"
    if not path.exists():
        with open(path, "w", encoding="utf-8") as stream:
            stream.writelines(
                f'{{"_id": "{row * 7}", "text": "{"a sentence of some words " * 4}"}}\n' for row in range(count)
            )
    return str(path)


def examples_of(folder: Path, count: int, positives: int, negatives: int, documents: int) -> tuple[str, str]:
    """Write examples with random documents, and their queries."""
    path, queries = folder / f"examples-{count}-{negatives}.jsonl", folder / f"queries-{count}.jsonl"
    draw = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8") as stream, open(queries, "w", encoding="utf-8") as texts:
        for number in range(count):
            texts.write(f'{{"_id": "q{number}", "text": "what does sentence {number} of the corpus say"}}\n')
            rows = draw.integers(documents, size=positives + negatives + 8).tolist()
            names = [str(row * 7) for row in dict.fromkeys(rows)][: positives + negatives]
            record = {"query_id": f"q{number}", "positives": names[:positives], "negatives": names[positives:]}
            stream.write(json.dumps(record) + "\n")
    return str(path), str(queries)


def measure_examples(folder: Path, units: int, positives: int = 10, negatives: int = 5) -> dict[str, Measured]:
    """Make the files of examples, then open them in a process that resumes, and draw batches."""
    from drtools.formats.corpus_store import open_store
    from drtools.training import example_files
    from drtools.training.examples import usable_examples
    from drtools.training.sampling import EpochSampler, ExampleSource

    documents = 200_000
    store = open_store(corpus_of(folder, documents))
    example_files.SMALL_BYTES = 0
    path, queries = examples_of(folder, units, positives, negatives, documents)
    found: dict[str, Measured] = {}

    def opened() -> None:
        sampler = EpochSampler([ExampleSource(usable_examples(path, queries, store), store)], BATCH, 1)
        for step in range(3):
            assert len(sampler(step)) == BATCH

    found["made once"] = measured(lambda: usable_examples(path, queries, store))
    found["opened, 3 batches"] = measured(opened)
    return found


def measure_ids(folder: Path, units: int) -> dict[str, Measured]:
    """Look up the ids of as many random rows as there are documents."""
    from drtools.formats.corpus_store import open_store

    store = open_store(corpus_of(folder, units))
    rows = np.random.default_rng(0).integers(units, size=units)
    return {"ids by row": measured(lambda: store.ids_at(rows))}


def measure_joined(folder: Path, units: int) -> dict[str, Measured]:
    """Find the rows of ids in another order."""
    from drtools.formats.ids import Ids
    from drtools.formats.joined_vectors import order_of

    names = [f"doc{row}" for row in range(units)]
    (folder / "a.txt").write_text("\n".join(names) + "\n")
    np.random.default_rng(0).shuffle(names)
    (folder / "b.txt").write_text("\n".join(names) + "\n")
    ids, others = Ids(folder / "a.txt"), Ids(folder / "b.txt")
    return {"rows of ids": measured(lambda: order_of(ids, others, ("a", "b")))}


def measure_cache(folder: Path, units: int) -> dict[str, Measured]:
    """Keep the scores of queries with 1,308 pieces each, in windows of 10,000 pairs that are sorted otherwise."""
    from drtools.outputs.cache import cache_path
    from drtools.teachers.score_cache import ScoreCache, pair_key

    cache, draw = ScoreCache(f"scale-{units}"), np.random.default_rng(0)

    def written() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])

    def keep() -> None:
        for first in range(0, units, 10_000):
            pairs = [divmod(number, 1308) for number in range(first, min(first + 10_000, units))]
            pairs = [pairs[at] for at in draw.permutation(len(pairs))]
            keys = [pair_key(f"question {query}", f"piece {piece} of {query}") for query, piece in pairs]
            cache.keep([(key, 1.5) for key in keys], [(key, 0) for key in keys])

    before = written()
    found = measured(keep)
    size = sum(path.stat().st_size for path in (cache_path() / "scores").glob(f"scale-{units}.sqlite*"))
    return {"kept": found, "on the disk": {"bytes": size}, "written": {"bytes": written() - before}}


def vectors_of(folder: Path, count: int) -> np.ndarray:
    """Write random vectors of length 1, float16, and open them as a memory map."""
    path, block = folder / f"vectors-{count}.npy", 100_000
    if not path.exists():
        array = np.lib.format.open_memmap(path, "w+", np.float16, (count, DIMENSION))
        for start in range(0, count, block):
            some = np.random.default_rng(start).standard_normal((min(block, count - start), DIMENSION), np.float32)
            array[start : start + len(some)] = some / np.linalg.norm(some, axis=1, keepdims=True)
        array.flush()
    opened: np.ndarray = np.load(path, mmap_mode="r")
    return opened


def measure_exact(folder: Path, units: int, queries: int = QUERIES, depth: int = 100) -> dict[str, Measured]:
    """Search all vectors exactly."""
    from drtools.search.exact import search

    vectors = vectors_of(folder, units)
    asked = np.random.default_rng(1).standard_normal((queries, DIMENSION), np.float32)
    return {"searched": measured(lambda: search(vectors, asked, depth))}


def measure_ivf(folder: Path, units: int) -> dict[str, Measured]:
    """Train IVF1024,Flat on 50,000 vectors, add all, and search."""
    from drtools.search import faiss_index

    vectors, path = vectors_of(folder, units), folder / f"ivf-{units}.faiss"
    made = measured(lambda: faiss_index.build(vectors, "IVF1024,Flat", path, 65_536))
    index = faiss_index.load(path, memory_map=True)
    path.unlink()
    asked = np.random.default_rng(1).standard_normal((QUERIES, DIMENSION), np.float32)
    return {"trained and added": made, "searched": measured(lambda: faiss_index.search_index(index, asked, 100))}


def measure_mining(folder: Path, units: int) -> dict[str, Measured]:
    """Search 1,000 queries exactly to depth 200, and draw 30 negatives of each."""
    from collections import Counter

    from drtools.search.exact import search
    from drtools.search.mining import MiningRules, choose_negatives

    vectors = vectors_of(folder, units)
    asked, rules = np.random.default_rng(1).standard_normal((1000, DIMENSION), np.float32), MiningRules(negatives=30)

    def mine() -> None:
        scores, rows = search(vectors, asked, 200)
        for number, (its, of) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True)):
            hits = {str(row): score for row, score in zip(its, of, strict=True)}
            choose_negatives(f"q{number}", hits, {str(its[0])}, None, rules, Counter[str](), {})

    return {"mined": measured(mine)}


def measure(part: str, units: int, folder: Path) -> dict[str, Measured]:
    """Measure a part at a size, in this process."""
    if part == "negatives":
        return measure_examples(folder, units, 1, 200)
    found: dict[str, Measured] = globals()[f"measure_{part}"](folder, units)
    return found


def main() -> None:
    """Print the table of each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--small", type=int, help="units of the smaller size; default: of seconds")
    parser.add_argument("--folder", type=Path, help="folder for data that is kept; default: a temporary one")
    parser.add_argument("--units", type=int, help=argparse.SUPPRESS)  # of one measurement, in a process of its own
    flags = parser.parse_args()
    if flags.units:
        found = measure(flags.parts[0], flags.units, flags.folder)
        found["process"] = {"bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        print(json.dumps(found))
        return
    print("| part | what | units | seconds | microseconds a unit | MB | at the paper's size |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "DRTOOLS_CACHE": str(folder / "cache")}
        for part in flags.parts or PAPERS:
            small = flags.small or SMALL[part]
            command = [sys.executable, __file__, part, "--folder", str(folder), "--units"]
            sizes = [small, 10 * small]
            both = [
                json.loads(subprocess.run([*command, str(size)], env=environment, check=True, stdout=-1).stdout)
                for size in sizes
            ]
            for line in table_of(part, sizes, both):
                print(line, flush=True)


def table_of(part: str, sizes: list[int], both: list[dict[str, Measured]]) -> list[str]:
    """Return the lines of a part: both sizes, and the straight line through them at the paper's size."""
    lines = []
    for what in (name for name in both[0] if name != "process"):
        values = [found[what] for found in both]
        at_paper = {
            name: max(0.0, one + (other - one) * (PAPERS[part] - sizes[0]) / (sizes[1] - sizes[0]))
            for name, one, other in ((name, values[0][name], values[1][name]) for name in values[0])
        }
        for size, value in zip(sizes, values, strict=True):
            seconds = value.get("seconds")
            time_cells = "| | " if seconds is None else f"| {seconds:.2f} | {1e6 * seconds / size:.3g} "
            lines.append(f"| {part} | {what} | {size:,} {time_cells}| {value['bytes'] / 1e6:,.1f} | |")
        words = [f"{at_paper['seconds']:,.0f} s"] if "seconds" in at_paper else []
        words.append(f"{at_paper['bytes'] / 1e9:,.2f} GB")
        lines.append(f"| {part} | {what} | {PAPERS[part]:,} | | | | {', '.join(words)} |")
    return lines


if __name__ == "__main__":
    main()
