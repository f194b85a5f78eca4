"""Compare FAISS on GPUs with FAISS on the processor: build time, search time, and recall of the exact top 10.

    python benchmarks/faiss_gpu.py --device cuda:all

Vectors are random, in heaps. Each index is built on the processor and on the GPUs, and the second is searched on both.
Ends with status 1 if an index of the GPUs finds less (by more than .01), or if the same index finds other rows on a GPU
than on the processor (less than .99 in common).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from drtools.models.device import all_threads
from drtools.search import faiss_gpu, faiss_index

DEPTH = 10
FACTORIES = ["Flat", "IVF1024,Flat", "IVF1024,SQ8", "IVF1024,PQ48", "OPQ48,IVF1024,PQ48", "PQ48"]


def points(count: int, dimension: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    heaps = np.random.default_rng(0).standard_normal((1000, dimension), dtype=np.float32)
    vectors = heaps[generator.integers(0, len(heaps), count)]
    vectors += generator.standard_normal((count, dimension), dtype=np.float32)
    normalized: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalized


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=384)
    arguments = parser.parse_args()
    numbers, threads, failed = faiss_gpu.gpus(arguments.device, wanted=True), all_threads(), False
    vectors = points(arguments.count, arguments.dimension, 1)
    queries = points(1000, arguments.dimension, 2)
    print("index\tbuilt s\ton GPU s\trecall\ton GPU\tms a query\ton GPU\tsame rows")
    for factory in FACTORIES:
        built, found, milliseconds = [], [], []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            for where in ((), numbers):
                started = time.perf_counter()
                faiss_index.build(vectors, factory, path, threads=threads, gpus=where)
                built.append(time.perf_counter() - started)
                index = faiss_index.load(path)
                found.append(faiss_index.recall(index, vectors, queries, DEPTH))
        rows = []
        for copy in (None, faiss_gpu.put_on_gpus(index, arguments.device)):
            for _ in range(2):  # the first warms up
                started = time.perf_counter()
                rows.append(faiss_index.search_index(index, queries, DEPTH, on_gpus=copy)[1])
            milliseconds.append(1000 * (time.perf_counter() - started) / len(queries))
        same = np.mean([len(np.intersect1d(*both)) / DEPTH for both in zip(rows[1], rows[3], strict=True)])
        print(
            f"{factory}\t{built[0]:.1f}\t{built[1]:.1f}\t{found[0]:.4f}\t{found[1]:.4f}\t{milliseconds[0]:.3f}\t"
            f"{milliseconds[1]:.3f}\t{same:.4f}",
            flush=True,
        )
        failed |= bool(found[1] < found[0] - 0.01 or same < 0.99)
    sys.exit(failed)


if __name__ == "__main__":
    main()
