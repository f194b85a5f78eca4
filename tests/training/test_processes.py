"""Several processes train as one: the same weights, with and without caching, and a stop that all of them make at one step."""

import signal
import socket
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


# one process imports everything and then becomes several, as torchrun would start them but sooner
AS_SEVERAL = """
import os, sys
size, port, words = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
import torch, transformers, drtools.cli, drtools.training.encoders, drtools.training.loop, drtools.retrieval.encoding, drtools.batches.pairs, drtools.models.encoder
ranks = []
for rank in range(size):
    ranks.append(os.fork())
    if not ranks[-1]:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        drtools.cli.main(words)
        os._exit(0)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks))
"""


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def several(size, words, environment):
    done = subprocess.run([sys.executable, "-c", AS_SEVERAL, str(size), port(), *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("caching", [[], ["--gradient-caching", "--batch-tokens", "64"]], ids=["kept", "cached"])
@pytest.mark.parametrize("size", [2, 3])
def test_processes_equal_one(toy, encoder_folder, drtools, tmp_path, environment, size, caching):
    words = ["--steps", "4", "--dropout", "0", "--dev-qrels", toy.qrels, "--optimizer", "lamb", "--refresh-every-steps", "2", *caching]
    assert drtools(*command(toy, encoder_folder, tmp_path / "one", *words)).status == 0
    said = several(size, command(toy, encoder_folder, tmp_path / "more", *words), environment)
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "more"))
    start = load_file(Path(encoder_folder) / "model.safetensors")
    assert one.keys() == more.keys()
    for name, value in one.items():
        np.testing.assert_allclose(more[name], value, atol=1e-5)
    assert max(np.abs(one[name] - start[name]).max() for name in one) > 1e-3, "they did learn"
    assert said.count("step 4: dev") == 1, "the first process speaks"
    if size == 2 and not caching:
        assert "already done" in several(size, command(toy, encoder_folder, tmp_path / "more", *words), environment)


def test_stopped_under_torchrun_it_ends_in_the_same_weights(toy, encoder_folder, tmp_path, environment):
    words = ["--steps", "120", "--save-every-minutes", "0.005"]
    several(2, command(toy, encoder_folder, tmp_path / "whole", *words), environment)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port(), "-m", "drtools"]
    process = subprocess.Popen([*torchrun, *command(toy, encoder_folder, tmp_path / "stopped", *words)], env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "stopped.partial/working").glob("checkpoint-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and "stopped; the same command again continues" in said and not (tmp_path / "stopped").exists()
    assert "continuing the work" in several(2, command(toy, encoder_folder, tmp_path / "stopped", *words), environment)
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(np.array_equal(one[name], more[name]) for name in one)
