"""A method that is added to a copy of the package: its home and its tool are all that it takes to train and encode."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import drtools

HOME = '''"""Hinge: a positive scores a margin above every other document of the batch."""

import torch

from drtools.losses import scores


def hinge_loss(scale, margin):
    """Return the hinge loss of a batch of examples, and the share of pairs within the margin."""

    def loss(queries, documents, batch):
        table = scores(queries, documents, scale)
        wrong = ~torch.from_numpy(batch.relevant).to(table.device)
        short = (margin - table.diagonal()[:, None] + table).clamp(min=0)[wrong]
        return short.mean(), {"within_margin": float((short > 0).float().mean())}

    return loss
'''
TOOL = '''"""Train an encoder by a hinge loss."""

from typing import Annotated

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags
from drtools.outputs.opening import open_folder


def main(
    folder: FolderOutput,
    examples: ExampleFlags,
    encoder: EncoderFlags,
    student: StudentFlags,
    training: TrainingFlags,
    compute: ComputeFlags,
    margin: Annotated[float, Option(help="of a positive over any other document")] = 1.0,
) -> None:
    """Compose: examples into batches, the loss, the one loop, a model folder."""
    with open_folder(folder) as work:
        from drtools.methods.hinge import hinge_loss
        from drtools.training.encoder_task import EncoderTraining, read_sources

        task = EncoderTraining(work, encoder, student, training, compute)
        batches = task.pair_batches(read_sources(examples), negatives=1)
        task.fit(
            batches, hinge_loss(task.scale, margin), batches.epoch_queries, None, default_epochs=1, paper_warmup=0
        )
        task.finish()
'''


@pytest.mark.slow
def test_a_method_is_its_home_and_its_tool(toy, encoder_folder, tmp_path):
    package = tmp_path / "checkout" / "drtools"
    shutil.copytree(Path(drtools.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "methods" / "hinge.py").write_text(HOME)
    (package / "tools" / "train_hinge.py").write_text(TOOL)
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}

    def run(*words: object) -> str:
        command = [sys.executable, "-m", "drtools", *map(str, words)]
        return subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert "\n  train-hinge " in run("--help") and "--margin" in run("train-hinge", "--help")
    texts = ["--corpus", toy.corpus, "--queries", toy.queries]
    flags = ["--model", encoder_folder, "--examples", toy.examples, "--steps", 20, "--batch-queries", 5]
    run("train-hinge", *texts, *flags, "--margin", 2, "--precision", "fp32", "-o", "hinge")
    log = [json.loads(line) for line in (tmp_path / "hinge" / "training.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0] and all(0 <= line["within_margin"] <= 1 for line in log if "loss" in line)
    run("encode", "--model", "hinge", "--corpus", toy.corpus, "-o", "vectors")
    assert len((tmp_path / "vectors" / "ids.txt").read_text().splitlines()) == 60
