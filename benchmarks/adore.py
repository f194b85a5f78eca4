"""Measure the time and memory of live search in a step of ADORE: synthetic vectors, all-MiniLM-L6-v2.

    python benchmarks/adore.py [--counts 10000 100000 1000000] [--steps 12] [--device cuda]

A step has 32 queries of 64 tokens in float32, and 200 hits among normalized random vectors of 384 dimensions in
float16, with exact search and with an IVF index of sqrt(N) lists. Prints the median seconds of a step, the share of
search, and the process's own memory.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
QUERIES, TOKENS, DIMENSION, DEPTH = 32, 64, 384, 200


def make_vectors(folder: Path, count: int) -> None:
    """Write a vectors folder of random unit vectors, with the model in its manifest."""
    import numpy as np

    from drtools.formats.vectors import create_array
    from drtools.models.loader import load_encoder

    folder.mkdir()
    random, array = np.random.default_rng(1), create_array(folder, count, DIMENSION, "float16")
    for start in range(0, count, 65536):
        block = random.standard_normal((min(65536, count - start), DIMENSION), np.float32)
        array[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    array.flush()
    (folder / "ids.txt").write_text("".join(f"{row}\n" for row in range(count)))
    fingerprints = {f"{side}_fingerprint": value for side, value in load_encoder(MODEL).side_fingerprints().items()}
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "tool": "benchmark",
                "request": {},
                "kind": "vectors",
                "side": "document",
                "count": count,
                "dimension": DIMENSION,
                "dtype": "float16",
                "model": MODEL,
                "normalized": True,
                "corpus": "",
                "fingerprint": str(count),
                "title_separator": " ",
                "max_tokens": 256,
                "precision": "fp32",
                **fingerprints,
            }
        )
    )


def steps(vectors: str, index: str | None, count: int, device: str) -> dict[str, float]:
    """Take some steps in this process. Returns seconds per step, seconds of search in it, and memory."""
    import numpy as np
    import torch

    from drtools.methods.adore.batches import QueryBatches
    from drtools.methods.adore.live_index import LiveIndex
    from drtools.methods.adore.loss import AdoreLoss, Judged
    from drtools.methods.adore.settings import Metric
    from drtools.models.compute import BATCH_TOKENS, Compute
    from drtools.models.cpu.attention import use_sliced_attention
    from drtools.models.cpu.dropout import use_own_dropout
    from drtools.models.loader import load_encoder
    from drtools.training.distributed import World
    from drtools.training.gradients import Gradients
    from drtools.training.optimizers import adamw

    model = load_encoder(MODEL)
    if device == "cpu":
        use_own_dropout(model.body)
        use_sliced_attention(model.body)
    model.to(device).train()
    words = list(model.tokenizer.get_vocab())[2000:9000]
    random = np.random.default_rng(2)
    texts = {str(n): " ".join(random.choice(words, TOKENS)) for n in range(QUERIES * count)}
    model.settings.max_query_tokens = TOKENS
    before = memory()
    live = LiveIndex(vectors, index, device, World())
    searching, search = [], live.search

    def timed(*arguments):
        started = time.perf_counter()
        found = search(*arguments)
        searching.append(time.perf_counter() - started)
        return found

    live.search = timed
    judged = {query_id: Judged(random.integers(len(live), size=1), np.ones(1, np.float32)) for query_id in texts}
    loss = AdoreLoss(
        live,
        judged,
        depth=DEPTH,
        metric=Metric.parse("rr@200"),
        append_missing=False,
        decoded=False,
        scale=20.0,
        negatives="live",
        seed=1,
        note_every_steps=10,
    )
    batches, optimizer = QueryBatches(texts, model, batch_queries=QUERIES, seed=1), adamw(model, 0.01)
    gradients = Gradients(model, Compute(device, "fp32", BATCH_TOKENS[device]), World(), False, device == "cpu")
    took, most = [], 0
    for step in range(count):
        batch = batches(step)
        started = time.perf_counter()
        gradients.of(batch, loss, 1, step)
        optimizer.step()
        optimizer.zero_grad()
        took.append(time.perf_counter() - started)
        most = max(most, memory())
    torch.set_num_threads(1)
    return {"step": statistics.median(took[2:]), "search": statistics.median(searching[2:]), "memory": most - before}


def memory() -> int:
    """Return this process's anonymous memory in bytes."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10000, 100000, 1000000])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(
            json.dumps(
                steps(
                    arguments.one[0],
                    arguments.one[1] if arguments.one[1] != "-" else None,
                    arguments.steps,
                    arguments.device,
                )
            )
        )
        return
    print(f"{'vectors':>10} {'search':<7} {'step s':>7} {'search s':>9} {'share':>6} {'MB more':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.counts:
            vectors = Path(folder) / str(count)
            make_vectors(vectors, count)
            index = Path(folder) / f"{count}-ivf"
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "drtools",
                    "index",
                    "--quiet",
                    "--vectors",
                    str(vectors),
                    "--factory",
                    f"IVF{int(math.sqrt(count))},Flat",
                    "-o",
                    str(index),
                ],
                check=True,
            )
            for name, path in (("exact", "-"), ("IVF", str(index))):
                done = subprocess.run(
                    [
                        sys.executable,
                        __file__,
                        "--steps",
                        str(arguments.steps),
                        "--device",
                        arguments.device,
                        "--one",
                        str(vectors),
                        path,
                    ],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                found = json.loads(done.stdout)
                print(
                    f"{count:>10,} {name:<7} {found['step']:7.3f} {found['search']:9.3f} "
                    f"{found['search'] / found['step']:6.0%} {found['memory'] / 1e6:8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
