"""Several processes train as one.

The same weights, with and without caching, and a stop that all of them make at one step.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import changed_by_flags, free_port
from safetensors.numpy import load_file


@changed_by_flags
def command(toy, encoder_folder, out, *more):
    return [
        "train-star",
        "--model",
        encoder_folder,
        *toy.training,
        "--batch-queries",
        "7",
        "--learning-rate",
        "1e-3",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "-o",
        str(out),
        *more,
    ]


CACHED = ["--gradient-caching", "--batch-tokens", "64"]


@pytest.mark.parametrize("caching", [[], pytest.param(CACHED, marks=pytest.mark.slow)], ids=["kept", "cached"])
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_equal_one(toy, encoder_folder, drtools, tmp_path, several, size, caching):
    words = [
        "--steps",
        "4",
        "--dropout",
        "0",
        "--dev-qrels",
        toy.qrels,
        "--optimizer",
        "lamb",
        "--refresh-every-steps",
        "2",
        *caching,
    ]
    assert drtools(*command(toy, encoder_folder, tmp_path / "one", *words)).status == 0
    said = several(size, command(toy, encoder_folder, tmp_path / "more", *words))
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "more"))
    start = load_file(Path(encoder_folder) / "model.safetensors")
    assert one.keys() == more.keys()
    for name, value in one.items():
        np.testing.assert_allclose(more[name], value, atol=1e-5)
    assert max(np.abs(one[name] - start[name]).max() for name in one) > 1e-3, "they did learn"
    assert said.count("step 4: dev") == 1, "the first process speaks"
    if size == 2 and not caching:
        assert "already done" in several(size, command(toy, encoder_folder, tmp_path / "more", *words))


@pytest.mark.bits
@pytest.mark.slow
def test_stopped_under_torchrun_it_ends_in_the_same_weights(
    toy, encoder_folder, tmp_path, several, program, environment
):
    words = ["--steps", "120", "--save-every-minutes", "0.005"]
    several(2, command(toy, encoder_folder, tmp_path / "whole", *words))
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        free_port(),
        "--no-python",
        program,
    ]
    process = subprocess.Popen(
        [*torchrun, *command(toy, encoder_folder, tmp_path / "stopped", *words)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "stopped.partial/working").glob("checkpoint-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert (
        process.returncode != 0
        and "stopped; the same command again continues" in said
        and not (tmp_path / "stopped").exists()
    )
    assert "continuing the work" in several(2, command(toy, encoder_folder, tmp_path / "stopped", *words))
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(np.array_equal(one[name], more[name]) for name in one)
