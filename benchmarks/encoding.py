"""Compare encoding with SentenceTransformer.encode: the same model, texts and length, alternately in one process.

    python benchmarks/encoding.py DATA/scifact/corpus.jsonl.gz [--texts 5183] [--rounds 3] [--device cuda --repeat 10]

For drtools, the time includes all that `encode` does between loading the model and renaming its output: text by id,
tokens, vectors, memory map, flushes. Prints texts per second, the ratio of each round (median, minimum, maximum), and
the share of the machine's rate of matrix products.
"""

import argparse
import statistics
import tempfile
import time

import torch
from sentence_transformers import SentenceTransformer

from drtools.cli import console
from drtools.cli.flags.outputs import FolderOutput
from drtools.encoding.folder import FolderEncoding
from drtools.formats.corpus_store import open_store
from drtools.formats.text_sources import DocumentTexts
from drtools.models.compute import BATCH_TOKENS, Compute, place
from drtools.models.loader import load_encoder
from drtools.models.resolving import resolve
from drtools.outputs.opening import open_folder
from drtools.training.operations import matmul_rate

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Some(DocumentTexts):
    """The first texts of a corpus, repeated.

    A small corpus takes a GPU too little time to measure.
    """

    count, repeat = 0, 1

    def __len__(self) -> int:
        return min(self.count, len(self.store)) * self.repeat

    def slice(self, start: int, stop: int):
        first, ids, texts = min(self.count, len(self.store)), [], []
        while start < min(stop, len(self)):
            copy, row = divmod(start, first)
            until = min(first, row + stop - start)
            more_ids, more_texts = super().slice(row, until)
            ids += [f"{copy}-{name}" for name in more_ids]
            texts += more_texts
            start += until - row
        return ids, texts


def operations(encoder, lengths) -> float:
    """Return the multiplications and additions of the body's matrix products, padding left out."""
    config = encoder.body.config
    per_token = 2 * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    return config.num_hidden_layers * float(
        sum(per_token * n + 4 * config.hidden_size * n * n for n in lengths.tolist())
    )


def ours(encoder, texts, computing) -> float:
    """Encode as the tool does. Returns seconds."""
    with tempfile.TemporaryDirectory() as folder:
        flags = FolderOutput(output=f"{folder}/vectors")
        flags.request.update({"tool": "encode", "arguments": {}})
        started = time.perf_counter()
        with open_folder(flags) as work:
            FolderEncoding(encoder, texts, computing, "float16", 16384, work).run()
            seconds = time.perf_counter() - started
            work.finish()
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--texts", type=int, default=5183)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    console.configure("benchmark", quiet=True)
    texts = Some(open_store(arguments.corpus), " ")
    texts.count, texts.repeat = arguments.texts, arguments.repeat
    _, plain = texts.slice(0, len(texts))

    sides = {}
    for precision, dtype in DTYPES.items():
        computing = Compute(arguments.device, precision, BATCH_TOKENS[arguments.device])
        encoder = load_encoder(MODEL)
        place(encoder, computing)
        peer = SentenceTransformer(str(resolve(MODEL)), device=arguments.device, model_kwargs={"dtype": dtype})
        sides[precision] = (encoder, computing, peer)
    lengths = encoder.tokenize(plain, "document").lengths
    print(f"{len(plain):,} texts, {lengths.mean():.0f} tokens each; {torch.get_num_threads()} threads")
    seconds = {name: [] for name in ("ours fp32", "theirs fp32", "ours bf16", "theirs bf16")}
    rates = {precision: matmul_rate(arguments.device, dtype) for precision, dtype in DTYPES.items()}
    for _ in range(arguments.rounds):
        for precision, (encoder, computing, peer) in sides.items():
            seconds[f"ours {precision}"].append(ours(encoder, texts, computing))
            started = time.perf_counter()
            peer.encode(plain)
            seconds[f"theirs {precision}"].append(time.perf_counter() - started)
            print(
                f"{precision}: {seconds[f'ours {precision}'][-1]:.1f} and {seconds[f'theirs {precision}'][-1]:.1f} s",
                flush=True,
            )
    work = operations(encoder, lengths)
    for name, values in seconds.items():
        middle = statistics.median(values)
        rate = rates[name.split()[1]]
        print(
            f"{name:<12} {len(plain) / middle:8.1f} texts/s  {work / middle / 1e9:7.0f} GFLOP/s  "
            f"{work / middle / rate:5.0%} of {rate / 1e9:,.0f}"
        )
    for words, a, b in (
        ("float32", "theirs fp32", "ours fp32"),
        ("bfloat16", "theirs bf16", "ours bf16"),
        ("each at its defaults", "theirs fp32", "ours bf16"),
    ):
        ratios = sorted(slow / fast for slow, fast in zip(seconds[a], seconds[b], strict=True))
        print(f"{words:<21} {statistics.median(ratios):5.2f}x  ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
