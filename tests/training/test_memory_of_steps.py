"""The memory of a training does not grow with its steps, although each step has texts of other lengths."""

import json
import os
import random
import subprocess
import sys

import pytest
from conftest import WORDS, make_bert


def peak_of(words, environment):
    """Run a tool in a process of its own; return the largest memory that it had in use, in bytes."""
    process = subprocess.Popen([sys.executable, "-m", "drtools", *map(str, words)], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0
    return used.ru_maxrss * 1024


@pytest.mark.slow
def test_thirty_steps_of_many_lengths_take_the_memory_of_three(tmp_path):
    generator = random.Random(3)
    corpus = tmp_path / "corpus.jsonl"
    with corpus.open("w") as stream:
        for number in range(2000):
            text = " ".join(generator.choices(WORDS, k=generator.randint(10, 150)))
            stream.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")
    model = make_bert(tmp_path / "bert", hidden=384, positions=160)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ONEDNN_", "MALLOC_"))}
    command = ["mlm-adapt", "--model", model, "--pooling", "mean", "--corpus", corpus, "--head-steps", "0"]
    command += ["--batch-documents", "96", "--crop-tokens", "150", "--quiet"]
    few, many = (peak_of([*command, "--steps", steps, "-o", tmp_path / str(steps)], environment) for steps in (3, 30))
    assert many < 1.5 * few, f"{few / 1e6:.0f} MB in 3 steps, {many / 1e6:.0f} MB in 30"
