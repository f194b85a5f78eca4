"""A day of an HNSW index: `index --update` with a few documents more and fewer, beside building it whole.

    python benchmarks/update_graph.py [--sizes 2000 20000] [--new 20] [--gone 5] [--dimension 384] [--days 3]

Vectors are random ones in heaps of about 200, as texts on the same subject have. Times are those of whole processes;
recall is that of the exact top 10 for 200 queries (ef_search 64).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from drtools.search import faiss_index

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def points(count: int, heaps: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return normalized vectors float16 [count, D] around the heaps' centres."""
    vectors = heaps[generator.integers(0, len(heaps), count)]
    vectors = vectors + 0.7 * generator.standard_normal(vectors.shape, dtype=np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def seconds(*words: object) -> float:
    """Run a tool; return the seconds of its process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "drtools", *map(str, words), "--quiet"], check=True)
    return time.perf_counter() - started


def vectors_of(folder: Path, name: str, ids: np.ndarray, array: np.ndarray) -> Path:
    """Write vectors as a folder of the tools."""
    np.save(folder / f"{name}.npy", array)
    (folder / f"{name}.txt").write_text("\n".join(map(str, ids)) + "\n")
    made = folder / f"{name}-vectors"
    words = ["--ids", folder / f"{name}.txt", "--model", MODEL, "-o", made]
    seconds("convert", "--vectors", folder / f"{name}.npy", *words)
    return made


def recall(index: Path, array: np.ndarray, queries: np.ndarray) -> float:
    """Return the recall of an index folder."""
    return faiss_index.recall(faiss_index.load(index / "index.faiss"), array, queries, 10)


def main() -> None:
    """Print a row for each size and day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--new", type=int, default=20)
    parser.add_argument("--gone", type=int, default=5)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--factory", default="HNSW32")
    flags = parser.parse_args()
    print("| vectors | day | update, s | whole, s | recall@10 updated | recall@10 whole |\n|---|---|---|---|---|---|")
    for size in flags.sizes:
        generator = np.random.default_rng(1)
        heaps = generator.standard_normal((size // 200, flags.dimension), dtype=np.float32)
        ids, array = np.arange(size), points(size, heaps, generator)
        queries = points(200, heaps, generator).astype(np.float32)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            index = folder / "0"
            made = vectors_of(folder, "day0", ids, array)
            seconds("index", "--vectors", made, "--factory", flags.factory, "-o", index)
            for day in range(1, flags.days + 1):
                kept = np.sort(generator.choice(len(ids), len(ids) - flags.gone, replace=False))
                ids = np.concatenate([ids[kept], ids.max() + 1 + np.arange(flags.new)])
                array = np.concatenate([array[kept], points(flags.new, heaps, generator)])
                made = vectors_of(folder, f"day{day}", ids, array)
                updated, whole = folder / str(day), folder / f"{day}-whole"
                update = seconds("index", "--vectors", made, "--update", index, "-o", updated)
                build = seconds("index", "--vectors", made, "--factory", flags.factory, "-o", whole)
                both = f"{recall(updated, array, queries):.4f} | {recall(whole, array, queries):.4f}"
                print(f"| {len(ids):,} | {day} | {update:.1f} | {build:.1f} | {both} |", flush=True)
                index = updated


if __name__ == "__main__":
    main()
