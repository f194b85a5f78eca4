"""distill-fgd from end to end on the toy collection: it learns, every ablation runs, it continues, processes equal one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pieces_of import SIZE_FLAGS, cls_of, score_pieces
from safetensors.numpy import load_file

from tests.models.test_cross_encoder import rankers  # noqa: F401: a fixture
from tests.models.tiny_bodies import families  # noqa: F401: a fixture
from tests.training.test_processes import several


@pytest.fixture
def start(toy, bert, tmp_path):
    model = cls_of(bert, tmp_path / "start")
    toy.scored = score_pieces(toy, model, tmp_path / "scored.jsonl")
    return model


def command(toy, start, out, *more):
    return ["distill-fgd", "--model", start, "--corpus", toy.corpus, "--queries", toy.queries, "--examples", toy.scored, "--batch-queries", "7", "--learning-rate", "1e-3",
            "--hard-negatives", "2", "--max-document-tokens", "64", "--precision", "fp32", "--threads", "1", *SIZE_FLAGS, "-o", str(out), *more]


def test_it_learns_and_the_log_tells_the_parts(toy, start, drtools, tmp_path):
    arguments = command(toy, start, tmp_path / "fgd", "--steps", "60", "--evaluate-every-steps", "20", "--dev-qrels", toy.qrels,
                        "--dropout", "0", "--lambda", "1", "--scale", "0.3", "--learning-rate", "3e-3")
    outcome = drtools(*arguments)
    assert outcome.status == 0, outcome.err
    made = json.loads((tmp_path / "fgd/manifest.json").read_text())
    assert made["best"]["value"] > made["evaluations"][0]["nDCG@10"] + 0.05 and made["scored_by"] == "counts@1"
    log = [record for record in map(json.loads, (tmp_path / "fgd/training.jsonl").read_text().splitlines()) if "loss" in record]
    for name in ("contrastive", "passage KL", "sentence KL", "loss"):
        assert log[0][name] > log[-1][name] > 0
    again = drtools(*arguments)
    assert again.status == 0 and "already done" in again.err
    outcome = drtools("encode", "--model", tmp_path / "fgd", "--documents", toy.corpus, "-o", tmp_path / "vectors")
    assert outcome.status == 0, outcome.err


def test_every_ablation_runs_and_differs(toy, start, drtools, tmp_path):
    arms = {"fgd": [], "document-too": ["--levels", "document,passage,sentence"], "document": ["--levels", "document"], "no-passages": ["--levels", "sentence"],
            "no-sentences": ["--levels", "passage"], "mean": ["--spans", "mean"], "rgat": ["--spans", "rgat"], "reverse": ["--kl", "student-teacher"], "lambda": ["--lambda", "1"]}
    weights = {}
    for name, more in arms.items():
        outcome = drtools(*command(toy, start, tmp_path / name, "--steps", "2", *more))
        assert outcome.status == 0, (name, outcome.err)
        weights[name] = load_file(tmp_path / name / "model.safetensors")["encoder.layer.1.attention.self.query.weight"]
    names = list(weights)
    assert all(not np.array_equal(weights[one], weights[other]) for at, one in enumerate(names) for other in names[at + 1 :])


def test_processes_equal_one(toy, start, drtools, tmp_path, environment):
    words = ["--steps", "3", "--dropout", "0", "--spans", "rgat", "--levels", "document,passage,sentence"]
    assert drtools(*command(toy, start, tmp_path / "one", *words)).status == 0
    several(2, command(toy, start, tmp_path / "more", *words), environment)
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "more"))
    for name, value in one.items():
        np.testing.assert_allclose(more[name], value, atol=1e-5)


def test_killed_it_ends_in_the_same_weights(toy, start, drtools, tmp_path, environment):
    arguments = ("--steps", "16", "--save-every-minutes", "0", "--threads", "2", "--spans", "rgat")
    assert drtools(*command(toy, start, tmp_path / "whole", *arguments)).status == 0
    words = [sys.executable, "-m", "drtools", *command(toy, start, tmp_path / "killed", *arguments)]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None and not list((tmp_path / "killed.partial/working").glob("checkpoint-*")):
        time.sleep(0.01)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert drtools(*command(toy, start, tmp_path / "killed", *arguments)).status == 0
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_what_cannot_be_meant_is_refused(toy, start, encoder_folder, drtools, tmp_path):
    for model, more, words in ((start, ["--levels", "paragraph"], "expected some of document, passage, sentence"), (encoder_folder, [], "say --pooling cls"),
                               (start, ["--passage-tokens", "4"], "a sentence lies in a passage"), (start, ["--examples", toy.examples], "teacher-score"),
                               (start, ["--sentence-tokens", "7"], "but this encoder cuts it into")):
        outcome = drtools(*command(toy, model, tmp_path / "out", "--steps", "1", *more))
        assert outcome.status == 2 and words in outcome.err and "Traceback" not in outcome.err, outcome.err


def test_pieces_are_scored_alone_and_trained_on(toy, start, rankers, drtools, tmp_path):  # noqa: F811
    from sentence_transformers import CrossEncoder

    sizes = [*SIZE_FLAGS, "--pieces-max-document-tokens", "64"]
    score = ["teacher-score", "--teacher", rankers["bert"], "--examples", toy.examples, "--corpus", toy.corpus, "--queries", toy.queries, "--precision", "fp32"]
    outcome = drtools(*score, "--pieces", start, *sizes, "-o", tmp_path / "taught.jsonl")
    assert outcome.status == 0, outcome.err
    queries = {record["_id"]: record["text"] for record in map(json.loads, Path(toy.queries).read_text().splitlines())}
    texts = {document["_id"]: f"{document['title']} {document['text']}" for document in toy.documents}
    scored, counted = (list(map(json.loads, Path(path).read_text().splitlines())) for path in (tmp_path / "taught.jsonl", toy.scored))
    for record, other in zip(scored, counted, strict=True):
        assert record["pieces"] == other["pieces"] and {piece["id"] for piece in record["pieces"]} == {*record["positives"], *record["negatives"]}
    pairs = [(queries[scored[0]["query_id"]], texts[piece["id"]][piece["start"] : piece["end"]]) for piece in scored[0]["pieces"]]
    np.testing.assert_allclose(scored[0]["piece_scores"], CrossEncoder(rankers["bert"], device="cpu").predict(pairs), atol=1e-5)
    toy.scored = str(tmp_path / "taught.jsonl")
    assert drtools(*command(toy, start, tmp_path / "fgd", "--steps", "1")).status == 0
    for more, words in ((["--pieces", start, "--pieces-max-document-tokens", "65"], "has 64 positions"), (["--pieces", rankers["bert"], "--run", "x"], "no such file")):
        assert words in drtools(*score, *more, "-o", tmp_path / "refused").err
