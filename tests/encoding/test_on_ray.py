"""Encoding on a Ray cluster: the bytes of one machine, whatever dies; and workers that are not alike refuse."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import WORDS, write_jsonl

from drtools.encoding.on_ray import Job, _versions, encode_on_worker, settled_on_worker
from drtools.errors import InputError
from drtools.formats.vectors import open_vectors
from drtools.models.compute import Compute
from drtools.models.loader import load_for_encoding
from drtools.models.specs import ComputeSpec, EncoderSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def job(encoder_folder) -> Job:
    encoder = load_for_encoding(EncoderSpec(str(encoder_folder)), Compute("cpu", "fp32", 4096), "document")
    return Job(
        EncoderSpec(str(encoder_folder)),
        ComputeSpec(precision="fp32"),
        None,
        "float16",
        "document",
        None,
        _versions(),
        ("cpu", "fp32", 4096),
        tuple(sorted(encoder.side_fingerprints().items())),
    )


def test_a_worker_makes_the_bits_of_one_machine(job, toy, encoder_folder, drtools):
    out = toy.folder / "whole"
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--precision", "fp32", "-o", out]
    assert drtools(*words).status == 0
    texts = [f"{document['title']} {document['text']}" for document in toy.documents]
    made = [encode_on_worker(job, texts[start : start + 7]) for start in range(0, 60, 7)]
    assert np.array_equal(np.concatenate([each.vectors for each in made]), open_vectors(out).array)
    assert settled_on_worker(job) == job.computing


def test_workers_with_other_versions_another_model_or_precision_refuse(job):
    for changed, words in (
        (replace(job, versions=(("drtools", "0.0"), job.versions[1])), "a worker has other versions (drtools "),
        (replace(job, versions=(job.versions[0], ("torch", "1.0"))), "here 1.0"),
        (replace(job, fingerprints=(("document", "x"), ("query", "y"))), "a worker finds another encoder in "),
        (
            replace(job, computing=("cuda", "bf16", 65536)),
            "expected device cuda, precision bf16 and 65,536 tokens a batch",
        ),
    ):
        with pytest.raises(InputError) as refused:
            encode_on_worker(changed, ["fox"])
        assert words in str(refused.value) and os.uname().nodename in str(refused.value)


def test_flags_that_do_not_go_together_are_refused(toy, encoder_folder, drtools):
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", toy.folder / "x"]
    lone = drtools(*words, "--ray-gpus-per-task", 1)
    assert lone.status == 2 and "--ray-gpus-per-task needs --ray" in lone.err
    dry = drtools(*words, "--ray", "auto", "--dry-run")
    assert dry.status == 2 and "leave --ray out" in dry.err


@pytest.mark.slow
def test_a_driver_and_a_node_that_are_killed_cost_no_byte(tmp_path, encoder_folder, drtools, environment, monkeypatch):
    generator = random.Random(3)
    documents = [
        {"_id": f"d{n}", "title": "", "text": " ".join(generator.choices(WORDS, k=generator.randint(20, 60)))}
        for n in range(1200)
    ]
    write_jsonl(tmp_path / "corpus.jsonl", documents)
    shutil.copytree(encoder_folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    one = ["encode", "--model", "model", "--corpus", "corpus.jsonl", "--precision", "fp32", "-o", "whole"]
    assert drtools(*one).status == 0
    spaces = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    spaces += [] if os.geteuid() == 0 else ["--map-root-user"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-test" * 3, "RAY_USAGE_STATS_ENABLED": "0"}
    short = Path("/tmp") / f"drtools-ray-{os.getpid()}"  # a socket's path has 107 bytes at most
    short.symlink_to(tmp_path)
    try:
        done = subprocess.run(
            [*spaces, sys.executable, ROOT / "tests" / "ray_nodes.py", short],
            env={**environment, **token, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        short.unlink()
    assert done.returncode == 0, done.stderr
    happened = json.loads(done.stdout.splitlines()[-1])
    for name in ("no cluster", "another token"):
        status, said = happened[name]
        assert status == 1 and "no cluster was reached" in said and "Traceback" not in said, (name, said)
    for name in ("driver", "node"):
        killed_at, workers, status, said = happened[name]
        assert status == 0, said
        assert 300 <= killed_at < 1200 and workers == 2, happened
        for file in ("vectors.npy", "ids.txt", "texts.npy"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), (name, file)
    assert "continuing the work of an earlier process" in happened["driver"][3]
