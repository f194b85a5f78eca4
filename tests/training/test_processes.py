"""Several processes train as one: the same weights, with and without caching, and a stop that all of them make at one step."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file


def command(toy, encoder_folder, out, *more):
    return ["train-star", "--model", encoder_folder, "--corpus", toy.corpus, "--queries", toy.queries, "--examples", toy.examples,
            "--batch-queries", "7", "--learning-rate", "1e-3", "--precision", "fp32", "--threads", "1", "-o", str(out), *more]


def torchrun(size, *words):
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), "--master-port", str(20000 + os.getpid() % 20000),
            "-m", "drtools", *words]


@pytest.mark.parametrize("size,caching", [(2, []), (3, ["--gradient-caching", "--batch-tokens", "64"])])
def test_processes_equal_one(toy, encoder_folder, drtools, tmp_path, environment, size, caching):
    words = ["--steps", "4", "--dropout", "0", "--dev-qrels", toy.qrels, "--optimizer", "lamb", *caching]
    assert drtools(*command(toy, encoder_folder, tmp_path / "one", *words)).status == 0
    done = subprocess.run(torchrun(size, *command(toy, encoder_folder, tmp_path / "more", *words)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "more"))
    start = load_file(Path(encoder_folder) / "model.safetensors")
    assert one.keys() == more.keys()
    for name, value in one.items():
        np.testing.assert_allclose(more[name], value, atol=1e-5)
    assert max(np.abs(one[name] - start[name]).max() for name in one) > 1e-3, "they did learn"
    assert done.stderr.count("step 4: dev") == 1, "the first process speaks"
    again = subprocess.run(torchrun(size, *command(toy, encoder_folder, tmp_path / "more", *words)), env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and "already done" in again.stderr


def test_stopped_under_torchrun_it_ends_in_the_same_weights(toy, encoder_folder, tmp_path, environment):
    words = ["--steps", "150", "--save-every-minutes", "0.005"]
    whole = subprocess.run(torchrun(2, *command(toy, encoder_folder, tmp_path / "whole", *words)), env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(torchrun(2, *command(toy, encoder_folder, tmp_path / "stopped", *words)), env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "stopped.partial/working").glob("checkpoint-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and "stopped; the same command again continues" in said and not (tmp_path / "stopped").exists()
    again = subprocess.run(torchrun(2, *command(toy, encoder_folder, tmp_path / "stopped", *words)), env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "continuing the work" in again.stderr
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(np.array_equal(one[name], more[name]) for name in one)
