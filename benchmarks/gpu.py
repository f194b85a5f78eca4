"""Compare a GPU with the CPU on the same work: vectors, exact search, and the loss and gradient of a training step.

    python benchmarks/gpu.py DATA/scifact

The model is all-MiniLM-L6-v2 in float32 without dropout. Prints the largest differences, and ends with status 1 if one
is larger than float32 and another order of sums explain. Before that, it prints the GPU's rate of training in bfloat16
by the number of tokens in a batch, on texts of mixed lengths: small batches leave it idle, large ones have more
padding.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from training import write_examples

from drtools.cli import console
from drtools.encoding.loop import encode_texts
from drtools.formats.corpus_store import open_store
from drtools.methods.contrastive import contrastive_loss
from drtools.models.compute import BATCH_TOKENS, Compute, place
from drtools.models.loader import load_encoder
from drtools.models.tokens import Tokens
from drtools.search import exact
from drtools.training.distributed import World
from drtools.training.examples import usable_examples
from drtools.training.gradients import Gradients
from drtools.training.pairs import PairBatches
from drtools.training.sampling import ExampleSource

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DOCUMENTS, QUERIES, ALLOWED = 1000, 64, 2e-4
SIZES = (131072, 65536, 32768, 16384, 8192)
TEXTS, ROUNDS = 1024, 3


def vectors_on(device: str, texts: list[str]) -> np.ndarray:
    """Return vectors [N, D] made on a device."""
    encoder, computing = load_encoder(MODEL), Compute(device, "fp32", BATCH_TOKENS[device])
    place(encoder, computing)
    return encode_texts(encoder, texts, "document", computing)[0]


def step_on(device: str, source: ExampleSource, caching: bool) -> tuple[float, torch.Tensor]:
    """Return the loss and the whole gradient of one batch."""
    model = load_encoder(MODEL, dropout=0.0).to(device).train()
    gradients = Gradients(model, Compute(device, "fp32", 4096), World(), caching, False)
    loss, _ = gradients.of(
        PairBatches([source], model, batch_queries=QUERIES, negatives=1, seed=1)(0), contrastive_loss(20.0), 1
    )
    return loss, torch.cat(
        [parameter.grad.flatten().cpu() for parameter in gradients.parameters if parameter.grad is not None]
    )


def rate_by_batches(device: str, batch_tokens: int) -> tuple[float, float]:
    """Return (tokens per second, share of padding) of the gradient over texts of 12 to 512 tokens, half under 148."""
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(5.0, 0.6, TEXTS), 12, 512).astype(np.int64)
    starts = np.append(0, lengths.cumsum())
    tokens = Tokens(
        random.integers(1000, 30000, starts[-1], dtype=np.int32),
        starts,
        np.zeros(TEXTS, bool),
        np.zeros(TEXTS, bool),
        0,
    )
    batch = SimpleNamespace(tokens={"document": tokens}, counts={"document": [TEXTS]})
    gradients = Gradients(
        load_encoder(MODEL).to(device).train(), Compute(device, "bf16", batch_tokens), World(), False, False
    )
    for turn in range(1 + ROUNDS):  # the first warms up
        if turn == 1:
            started = time.perf_counter()
        gradients.of(batch, lambda vectors, batch: (vectors.sum(), {}), turn)
        float(gradients.parameters[0].grad.sum())  # wait for it
    return ROUNDS * lengths.sum() / (time.perf_counter() - started), 1 - lengths.sum() / gradients.slots


def main() -> None:
    """Print rates and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    console.configure("benchmark", quiet=True)
    for tokens in SIZES:
        rate, padding = rate_by_batches("cuda", tokens)
        print(f"{f'batches of {tokens:,} tokens':<36} {rate:,.0f} tokens/s  padding {padding:.0%}")
    store = open_store(str(data / "corpus.jsonl.gz"))
    texts = [f"{document.title} {document.text}" for document in store.rows(0, DOCUMENTS)]
    on_cpu, on_gpu = vectors_on("cpu", texts), vectors_on("cuda", texts)
    found = {"vectors": np.abs(on_cpu - on_gpu).max()}
    random = np.random.default_rng(1)
    queries = on_cpu[random.integers(len(on_cpu), size=200)] + 0.05 * random.standard_normal(
        (200, on_cpu.shape[1]), np.float32
    )
    (scores, rows), (other_scores, other_rows) = (
        exact.search(on_cpu, queries, 100, device) for device in ("cpu", "cuda")
    )
    found["scores of exact search"] = np.abs(scores - other_scores).max()
    print(f"{'the same rows in the top 100':<36} {(rows == other_rows).mean():.4f}")
    examples = Path(tempfile.mkdtemp()) / "examples.jsonl"
    write_examples(data, examples)
    source = ExampleSource(usable_examples(str(examples), str(data / "queries.jsonl.gz"), store), store)
    loss, gradient = step_on("cpu", source, False)
    for caching in (False, True):
        other_loss, other = step_on("cuda", source, caching)
        words = " with caching" if caching else ""
        found[f"loss{words}"] = abs(loss - other_loss)
        found[f"gradient{words}, of its norm"] = float((gradient - other).norm() / gradient.norm())
    for name, difference in found.items():
        print(f"{name:<36} {difference:.2e}{'' if difference < ALLOWED else '  TOO FAR'}")
    sys.exit(int(max(found.values()) >= ALLOWED))


if __name__ == "__main__":
    main()
