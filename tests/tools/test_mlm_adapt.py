"""mlm-adapt from end to end on the toy corpus: it learns the corpus, keeps the head, continues bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def command(toy, start, out, *more):
    return ["mlm-adapt", "--model", str(start), "--corpus", toy.corpus, "--batch-documents", "8", "--learning-rate", "1e-3", "--crop-tokens", "24",
            "--dev-documents", "10", "--precision", "fp32", "--threads", "1", "-o", str(out), *more]


def weights(folder):
    return load_file(Path(folder) / "model.safetensors"), load_file(Path(folder) / "masked-head/model.safetensors")


def test_the_perplexity_falls_and_the_body_rests_while_the_head_learns(toy, encoder_folder, drtools, tmp_path):
    words = ["--head-steps", "20", "--steps", "40", "--evaluate-every-steps", "20", "--snapshot-steps", "20,30"]
    outcome = drtools(*command(toy, encoder_folder, tmp_path / "dam", *words))
    assert outcome.status == 0, outcome.err
    manifest = json.loads((tmp_path / "dam/manifest.json").read_text())
    perplexity = [evaluation["perplexity"] for evaluation in manifest["evaluations"]]
    assert [evaluation["step"] for evaluation in manifest["evaluations"]] == [0, 20, 40, 60]
    assert perplexity[0] > 100 and min(perplexity) < 0.7 * perplexity[0], "126 tokens in the vocabulary, some 60 in the corpus"
    best = min(manifest["evaluations"], key=lambda evaluation: evaluation["perplexity"])
    assert manifest["best"]["step"] == best["step"] and manifest["best"]["value"] == best["log-likelihood"]
    assert np.isclose(np.exp(-best["log-likelihood"]), best["perplexity"])
    assert manifest["head"] == "new" and manifest["head_steps"] == 20 and manifest["steps"] == 60
    assert [facts["step"] for facts in manifest["snapshots"]] == [20, 30]
    start = load_file(Path(encoder_folder) / "model.safetensors")
    frozen, moved = (load_file(tmp_path / f"dam/snapshots/{step}/model.safetensors") for step in (20, 30))
    assert all(np.array_equal(frozen[name], value) for name, value in start.items()), "the body rests for --head-steps"
    assert any(not np.array_equal(moved[name], value) for name, value in start.items())
    log = [json.loads(line) for line in (tmp_path / "dam/training.jsonl").read_text().splitlines()]
    rates = {record["step"]: record["learning_rate"] for record in log if "loss" in record}
    assert rates[20] == 1e-3 and rates[60] == 1e-3 and "texts_per_second" in log[1] | log[2]
    assert "the documents held out" in (tmp_path / "dam/README.md").read_text()


def test_an_adapted_encoder_encodes_and_is_adapted_further(toy, encoder_folder, drtools, tmp_path):
    assert drtools(*command(toy, encoder_folder, tmp_path / "source", "--head-steps", "5", "--steps", "5")).status == 0
    assert drtools(*command(toy, tmp_path / "source", tmp_path / "target", "--steps", "5")).status == 0
    manifest = json.loads((tmp_path / "target/manifest.json").read_text())
    assert manifest["head"] == "the start's own" and manifest["head_steps"] == 0
    assert [adapted["steps"] for adapted in manifest["adapted_on"]] == [10, 5]
    from drtools.models.encoder import load_encoder

    found = load_encoder(str(tmp_path / "target")).side_fingerprints()
    assert found == {side: manifest[f"{side}_fingerprint"] for side in found}, "the head makes no vectors"
    for name in ("source", "target"):
        outcome = drtools("encode", "--model", tmp_path / name, "--documents", toy.corpus, "--precision", "fp32", "-o", tmp_path / f"{name}-vectors")
        assert outcome.status == 0, outcome.err
    one, other = (np.load(tmp_path / f"{name}-vectors/vectors.npy") for name in ("source", "target"))
    assert one.shape == other.shape and not np.array_equal(one, other)
    from sentence_transformers import SentenceTransformer

    texts = [f"{document['title']} {document['text']}" for document in toy.documents[:5]]
    np.testing.assert_allclose(SentenceTransformer(str(tmp_path / "target"), device="cpu").encode(texts), other[:5].astype(np.float32), atol=2e-3)


def test_killed_it_ends_in_the_same_weights_and_snapshots(toy, encoder_folder, drtools, tmp_path, environment):
    words = ("--head-steps", "30", "--steps", "60", "--evaluate-every-steps", "11", "--save-every-minutes", "0", "--snapshot-steps", "25,70")
    assert drtools(*command(toy, encoder_folder, tmp_path / "whole", *words)).status == 0
    line = [sys.executable, "-m", "drtools", *command(toy, encoder_folder, tmp_path / "killed", *words)]
    for pause, number in ((0.25, signal.SIGKILL), (0.1, signal.SIGTERM)):
        process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and not list((tmp_path / "killed.partial/working").glob("checkpoint-*")):
            time.sleep(0.02)
        time.sleep(pause)
        if process.poll() is None:
            os.kill(process.pid, number)
        assert process.wait() in (-number, 143, 0)
        process.stderr.close()
    assert subprocess.run(line, env=environment, capture_output=True).returncode == 0
    for part in (".", "snapshots/25", "snapshots/70"):
        for one, other in zip(weights(tmp_path / "whole" / part), weights(tmp_path / "killed" / part), strict=True):
            assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_minutes_end_it_and_make_a_snapshot(toy, encoder_folder, drtools, tmp_path):
    outcome = drtools(*command(toy, encoder_folder, tmp_path / "dam", "--minutes", "0.03", "--head-steps", "2", "--snapshot-minutes", "0.01"))
    assert outcome.status == 0, outcome.err
    manifest = json.loads((tmp_path / "dam/manifest.json").read_text())
    (snapshot,) = manifest["snapshots"]
    assert 0.6 <= snapshot["seconds"] < 1.8 and 0 < snapshot["step"] < manifest["steps"]


def test_what_cannot_be_meant_is_said_in_one_line(toy, encoder_folder, drtools, tmp_path):
    for words, wanted in ((["--snapshot-steps", "20,10"], "rising numbers"), (["--dev-documents", "50"], "half of them"), (["--crop-tokens", "100"], "64 positions"),
                          (["--schedule-steps", "5", "--steps", "2"], "the rate never falls")):
        outcome = drtools(*command(toy, encoder_folder, tmp_path / "dam", *words))
        assert outcome.status == 2 and wanted in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
