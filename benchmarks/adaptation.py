"""Compare mlm-adapt with transformers' Trainer and its collator for masked language modelling.

With `--rem`, compare train-rem with training all weights.

    python benchmarks/adaptation.py DATA/scifact [--documents 32] [--steps 8] [--rounds 3]
    python benchmarks/adaptation.py DATA/wikipedia --rem

Both use the same model (all-MiniLM-L6-v2 with a new head and dropout), crops, batch, share of masked tokens and
optimizer. The Trainer gets tokenized crops, while drtools tokenizes during training. The seconds of a step are the
median between two steps. `--rem` prints seconds per step and peak memory of train-rem and train-contrastive on the same
queries, each in its own process. `--model` and `--device` select others.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CROP_TOKENS = 128


def ours(
    data: Path, model: str, device: str, precision: str, documents: int, steps: int, folder: str
) -> tuple[float, list[list[int]]]:
    """Adapt as the tool does, with a trained body from the first step.

    Returns (seconds per step, the crops).
    """
    import numpy as np

    from drtools.cli import console
    from drtools.cli.flags.compute import ComputeFlags
    from drtools.cli.flags.encoder import EncoderFlags
    from drtools.cli.flags.outputs import FolderOutput
    from drtools.cli.flags.training import TrainingFlags
    from drtools.methods.ddr.adaptation import MaskedTraining, masked_loss
    from drtools.methods.ddr.settings import MaskingSettings
    from drtools.models.masked import IGNORED
    from drtools.outputs.opening import open_folder

    console.configure("benchmark", quiet=True)
    target = FolderOutput(output=folder)
    target.request.update({"tool": "benchmark", "arguments": {}})
    times, crops = [], []
    with open_folder(target) as work:
        training = TrainingFlags(steps=steps, batch_queries=documents, schedule="constant", warmup_steps=0)
        task = MaskedTraining(
            work,
            MaskingSettings(crop_tokens=CROP_TOKENS, head_steps=0, dev_documents=0),
            EncoderFlags(model=model, pooling=None),
            training,
            ComputeFlags(precision=precision, device=device),
        )
        task.on_corpus(str(data / "corpus.jsonl.gz"), " ")

        def timed(rows, batch):
            times.append(time.perf_counter())
            tokens = batch.tokens["text"]
            whole = np.where(tokens.labels == IGNORED, tokens.tokens.flat, tokens.labels)
            crops.extend(part.tolist() for part in np.split(whole, tokens.tokens.starts[1:-1]))
            return masked_loss(rows, batch)

        batches = task.batches()
        task.fit(batches, timed, batches.epoch_documents, None, default_epochs=1, paper_warmup=0)
        task.finish()
    return _median_step(times), crops


def theirs(
    crops: list[list[int]], model: str, device: str, precision: str, documents: int, steps: int, folder: str
) -> float:
    """Train transformers' Trainer on the same crops in the same order. Returns seconds per step."""
    import transformers
    from transformers import (
        AutoModelForMaskedLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from drtools.models.resolving import resolve

    transformers.logging.set_verbosity_error()
    times = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            times.append(time.perf_counter())

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: object) -> None:
            return None

    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=documents,
        learning_rate=2e-5,
        weight_decay=0.01,
        bf16=precision == "bf16",
        use_cpu=device == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    collator = DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(resolve(model)), mlm_probability=0.15)
    trained = AutoModelForMaskedLM.from_pretrained(resolve(model))
    InOrder(
        model=trained,
        args=arguments,
        train_dataset=[{"input_ids": crop} for crop in crops],
        data_collator=collator,
        callbacks=[Clock()],
    ).train()
    return _median_step(times)


def _median_step(times: list[float]) -> float:
    return statistics.median([later - earlier for earlier, later in pairwise(times)][1:])


def adaptation(data: Path, model: str, device: str, documents: int, steps: int, rounds: int) -> None:
    """Measure both alternately, and print tokens per second and their ratio."""
    for precision in ("fp32", "bf16"):
        ratios, rates = [], {"ours": [], "theirs": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                took, crops = ours(data, model, device, precision, documents, steps, f"{folder}/ours")
                other = theirs(crops, model, device, precision, documents, steps, f"{folder}/theirs")
            tokens = sum(map(len, crops)) / steps
            rates["ours"].append(tokens / took)
            rates["theirs"].append(tokens / other)
            ratios.append(other / took)
        print(
            f"{precision}: ours {statistics.median(rates['ours']):8,.0f} tokens/s, theirs "
            f"{statistics.median(rates['theirs']):8,.0f}; "
            f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def rem(data: Path, model: str, device: str, queries: int, steps: int) -> None:
    """Print seconds per step and peak memory of training a REM and of training all weights."""
    from memory import TOOL, peak
    from training import write_examples

    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / "examples.jsonl"
        write_examples(data, examples)
        common = [
            "--quiet",
            "--model",
            model,
            "--device",
            device,
            "--corpus",
            data / "corpus.jsonl.gz",
            "--queries",
            data / "queries.jsonl.gz",
            "--examples",
            examples,
            "--max-document-tokens",
            CROP_TOKENS,
            "--batch-queries",
            queries,
            "--hard-negatives",
            1,
            "--steps",
            steps,
        ]
        seconds, peaks = {}, {}
        for tool in ("train-contrastive", "train-rem"):
            out = Path(folder) / tool
            peaks[tool] = peak([str(word) for word in [*TOOL, tool, *common, "-o", out]], dict(os.environ))
            seconds[tool] = json.loads((out / "manifest.json").read_text())["training_seconds"] / steps
            print(f"{tool:<18} {seconds[tool]:6.2f} s a step   {peaks[tool] / 1e6:7,.0f} MB", flush=True)
        print(
            f"a REM takes {seconds['train-rem'] / seconds['train-contrastive']:.2f} of the time and "
            f"{peaks['train-rem'] / peaks['train-contrastive']:.2f} of the memory"
        )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=32, help="documents in a batch; with --rem queries")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rem", action="store_true")
    arguments = parser.parse_args()
    if arguments.rem:
        rem(arguments.data, arguments.model, arguments.device, arguments.documents, arguments.steps)
    else:
        adaptation(
            arguments.data, arguments.model, arguments.device, arguments.documents, arguments.steps, arguments.rounds
        )


if __name__ == "__main__":
    main()
