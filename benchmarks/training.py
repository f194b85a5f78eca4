"""Compare training with sentence-transformers' trainer and MultipleNegativesRankingLoss, alternately in one process.

    python benchmarks/training.py DATA/covid-papers [--steps 8] [--rounds 3] [--device cuda --queries 256]
    python benchmarks/training.py DATA/wikipedia --memory

Both use the same model (all-MiniLM-L6-v2 with dropout), queries with a positive and a hard negative each, lengths,
batch and optimizer. The seconds of a step are the median between two steps, so that loading and the first steps do not
count. Prints the ratio of each round and the share of the machine's rate of matrix products. `--memory` prints the peak
of a step of 4,096 queries with gradient caching and of a step of 64 without, each in its own process.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DOCUMENT_TOKENS = 160


def write_examples(data: Path, path: Path) -> None:
    """Write an example with random negatives, which do not affect the speed, for each training query."""
    from drtools.formats.corpus_store import open_store
    from drtools.formats.examples import Example
    from drtools.formats.trec import read_qrels

    store, generator = open_store(str(data / "corpus.jsonl.gz")), random.Random(1)
    with open(path, "wb") as stream:
        for query_id, grades in read_qrels(str(data / "qrels/train.tsv")).items():
            negatives = [
                document for document in store.ids_at(generator.sample(range(len(store)), 5)) if document not in grades
            ]
            stream.write(Example(query_id, list(grades), negatives).line())


def ours(
    data: Path, examples: Path, setting: argparse.Namespace, precision: str, folder: str
) -> tuple[float, float, list[list[str]]]:
    """Train as the tool does. Returns (seconds per step, operations per step, the texts of its queries)."""
    from drtools.cli import console
    from drtools.cli.flags.compute import ComputeFlags
    from drtools.cli.flags.encoder import EncoderFlags
    from drtools.cli.flags.outputs import FolderOutput
    from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags
    from drtools.methods.contrastive import contrastive_loss
    from drtools.outputs.opening import open_folder
    from drtools.training.encoder_task import EncoderTraining, read_sources
    from drtools.training.operations import operations

    console.configure("benchmark", quiet=True)
    target = FolderOutput(output=folder)
    target.request.update({"tool": "benchmark", "arguments": {}})
    encoder_flags = EncoderFlags(model=MODEL, max_document_tokens=DOCUMENT_TOKENS)
    times, counts = [], []
    with open_folder(target) as work:
        task = EncoderTraining(
            work,
            encoder_flags,
            StudentFlags(),
            TrainingFlags(steps=setting.steps, batch_queries=setting.queries),
            ComputeFlags(precision=precision, device=setting.device),
        )
        sources = read_sources(
            ExampleFlags([str(examples)], [str(data / "corpus.jsonl.gz")], [str(data / "queries.jsonl.gz")])
        )
        loss = contrastive_loss(task.scale)

        def timed(query_vectors, document_vectors, batch):
            times.append(time.perf_counter())
            counts.append(sum(operations(task.model.body, tokens.lengths) for tokens in batch.tokens.values()))
            return loss(query_vectors, document_vectors, batch)

        batches = task.pair_batches(sources, negatives=1)
        task.fit(batches, timed, batches.epoch_queries, None, default_epochs=1, paper_warmup=0)
        task.finish()
    rows = [
        [
            source.examples.queries[at],
            source.text(source.examples.positives[at][0]),
            source.text(source.examples.negatives[at][0]),
        ]
        for step in range(setting.steps)
        for source, at, _ in batches.visits(step)
    ]
    return _median_step(times), statistics.median(counts), rows


def theirs(rows: list[list[str]], setting: argparse.Namespace, precision: str, folder: str) -> float:
    """Train sentence-transformers' trainer on the same rows in the same order. Returns seconds per step."""
    import transformers
    from datasets import Dataset, disable_progress_bars
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from drtools.models.resolving import resolve

    transformers.logging.set_verbosity_error()
    disable_progress_bars()
    model = SentenceTransformer(str(resolve(MODEL)), device=setting.device)
    model.max_seq_length = DOCUMENT_TOKENS
    times = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            times.append(time.perf_counter())

    columns = dict(zip(("anchor", "positive", "negative"), map(list, zip(*rows, strict=True)), strict=True))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=folder,
        max_steps=setting.steps,
        per_device_train_batch_size=setting.queries,
        learning_rate=2e-5,
        weight_decay=0.01,
        bf16=precision == "bf16",
        use_cpu=setting.device == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[Clock()],
    )
    trainer.train()
    return _median_step(times)


def _median_step(times: list[float]) -> float:
    return statistics.median([later - earlier for earlier, later in pairwise(times)][1:])


def speed(data: Path, setting: argparse.Namespace) -> None:
    """Print the table of speeds."""
    import torch

    from drtools.training.operations import matmul_rate

    rates = {"fp32": matmul_rate(setting.device, torch.float32), "bf16": matmul_rate(setting.device, torch.bfloat16)}
    seconds = {name: [] for name in ("ours fp32", "theirs fp32", "ours bf16", "theirs bf16")}
    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / "examples.jsonl"
        write_examples(data, examples)
        for number in range(setting.rounds):
            for precision in ("fp32", "bf16"):
                took, count, rows = ours(data, examples, setting, precision, f"{folder}/{number}-{precision}")
                seconds[f"ours {precision}"].append(took)
                seconds[f"theirs {precision}"].append(theirs(rows, setting, precision, f"{folder}/theirs"))
                print(
                    f"round {number + 1}, {precision}: ours {took:.3f}, theirs "
                    f"{seconds[f'theirs {precision}'][-1]:.3f} s a step",
                    flush=True,
                )
    for name, values in seconds.items():
        middle, rate = statistics.median(values), rates[name.split()[1]]
        print(
            f"{name:<12} {setting.queries / middle:6.1f} queries/s  {count / middle / 1e9:6.0f} GFLOP/s  "
            f"{count / middle / rate:5.0%} of {rate / 1e9:,.0f}"
        )
    for words, slow, fast in (
        ("float32", "theirs fp32", "ours fp32"),
        ("bfloat16", "theirs bf16", "ours bf16"),
        ("each at its defaults", "theirs fp32", "ours bf16"),
    ):
        ratios = sorted(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))
        print(f"{words:<21} {statistics.median(ratios):5.2f}x  ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def memory(data: Path) -> None:
    """Print the peak memory of a large batch with caching and of a small batch without."""
    from memory import TOOL, peak

    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / "examples.jsonl"
        write_examples(data, examples)
        peaks = {}
        for queries, more in ((64, []), (4096, ["--gradient-caching"])):
            command = [
                *TOOL,
                "train-contrastive",
                "--quiet",
                "--model",
                MODEL,
                "--corpus",
                data / "corpus.jsonl.gz",
                "--queries",
                data / "queries.jsonl.gz",
                "--examples",
                examples,
                "--max-document-tokens",
                "64",
                "--batch-queries",
                queries,
                "--steps",
                2 if queries == 64 else 1,
                "-o",
                f"{folder}/{queries}",
                *more,
            ]
            peaks[queries] = peak([str(word) for word in command], dict(os.environ))
            print(
                f"{queries:>5} queries{' with caching' if more else '':<14} {peaks[queries] / 1e6:,.0f} MB", flush=True
            )
        print(f"ratio {peaks[4096] / peaks[64]:.2f}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.data)
    else:
        speed(arguments.data, arguments)


if __name__ == "__main__":
    main()
