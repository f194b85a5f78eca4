"""mlm-adapt from end to end on the toy corpus: it learns the corpus, keeps the head, continues bit for bit."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import adapted_weights as weights
from commands import mlm_adapt as command
from conftest import write_jsonl
from preloaded import kill
from safetensors.numpy import load_file


@pytest.mark.slow
def test_the_perplexity_falls_and_the_body_rests_while_the_head_learns(toy, encoder_folder, drtools, tmp_path):
    toy.repeat_words()
    words = ["--head-steps", "20", "--steps", "40", "--evaluate-every-steps", "20", "--snapshot-steps", "20,30"]
    outcome = drtools(*command(toy, encoder_folder, tmp_path / "dam", *words))
    assert outcome.status == 0, outcome.err
    manifest = json.loads((tmp_path / "dam/manifest.json").read_text())
    perplexity = [evaluation["perplexity"] for evaluation in manifest["evaluations"]]
    assert [evaluation["step"] for evaluation in manifest["evaluations"]] == [-20, 0, 20, 40]
    assert 4 < perplexity[0] < 5 and perplexity[3] < 0.8 * perplexity[0], (
        "of 126 tokens a new head expects the four of the corpus at once; the body learns to look around"
    )
    best = min(manifest["evaluations"], key=lambda evaluation: evaluation["perplexity"])
    assert manifest["best"]["step"] == best["step"] and manifest["best"]["value"] == best["log-likelihood"]
    assert np.isclose(np.exp(-best["log-likelihood"]), best["perplexity"])
    assert manifest["head"] == "new" and manifest["head_steps"] == 20 and manifest["steps"] == 40
    assert [facts["step"] for facts in manifest["snapshots"]] == [20, 30]
    start = load_file(Path(encoder_folder) / "model.safetensors")
    frozen, moved = (load_file(tmp_path / f"dam/snapshots/{step}/model.safetensors") for step in (20, 30))
    assert all(np.array_equal(frozen[name], value) for name, value in start.items()), "the body rests for --head-steps"
    assert any(not np.array_equal(moved[name], value) for name, value in start.items())
    log = [json.loads(line) for line in (tmp_path / "dam/training.jsonl").read_text().splitlines()]
    rates = {record["step"]: record["learning_rate"] for record in log if "loss" in record}
    assert [record["step"] for record in log if "loss" in record] == [-10, 0, 10, 20, 30, 40], "the head's are apart"
    assert rates[0] == 1e-3 and rates[40] == 1e-3 and "texts_per_second" in log[1] | log[2]
    card = (tmp_path / "dam/README.md").read_text()
    assert "in 40 steps after 20 steps that fitted a new masked head, " in card and "\n| -20 | " in card
    assert "the documents held out" in card and "Steps below 0 fitted a new masked head." in card
    assert "head step 0: dev" in outcome.err and "step 0: dev" in outcome.err and "step 40: dev" in outcome.err
    assert f" at step {best['step']} (of " in outcome.err, outcome.err
    assert (
        "trained for 40 steps after 20 steps that fitted a new masked head, in "
        in drtools("show", tmp_path / "dam").out
    )


@pytest.mark.slow
def test_an_adapted_encoder_encodes_and_is_adapted_further(toy, encoder_folder, drtools, tmp_path):
    toy.repeat_words()
    assert drtools(*command(toy, encoder_folder, tmp_path / "source", "--head-steps", "5", "--steps", "5")).status == 0
    assert drtools(*command(toy, tmp_path / "source", tmp_path / "target", "--steps", "30")).status == 0
    manifest = json.loads((tmp_path / "target/manifest.json").read_text())
    assert manifest["head"] == "the start's own" and manifest["head_steps"] == 0
    assert [(adapted["head_steps"], adapted["steps"]) for adapted in manifest["adapted_on"]] == [(5, 5), (0, 30)]
    assert (
        len({adapted["corpus_fingerprint"] for adapted in manifest["adapted_on"]}) == 1
        and manifest["adapted_on"][1]["kept_step"] == manifest["best"]["step"]
    )
    from drtools.models.loader import load_encoder

    found = load_encoder(str(tmp_path / "target")).side_fingerprints()
    assert found == {side: manifest[f"{side}_fingerprint"] for side in found}, "the head makes no vectors"
    for name in ("source", "target"):
        outcome = drtools(
            "encode",
            "--model",
            tmp_path / name,
            "--corpus",
            toy.corpus,
            "--precision",
            "fp32",
            "-o",
            tmp_path / f"{name}-vectors",
        )
        assert outcome.status == 0, outcome.err
    one, other = (np.load(tmp_path / f"{name}-vectors/vectors.npy") for name in ("source", "target"))
    assert one.shape == other.shape and not np.array_equal(one, other)
    from sentence_transformers import SentenceTransformer

    texts = [document["text"] for document in toy.documents[:5]]
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "target"), device="cpu").encode(texts),
        other[:5].astype(np.float32),
        atol=2e-3,
    )


@pytest.mark.bits
@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mlm", "ed-mlm"])
def test_killed_it_ends_in_the_same_weights_and_snapshots(
    toy, encoder_folder, drtools, tmp_path, program, environment, objective
):
    words = (
        "--objective",
        objective,
        "--head-steps",
        "30",
        "--steps",
        "60",
        "--evaluate-every-steps",
        "11",
        "--save-every-minutes",
        "0",
        "--snapshot-steps",
        "25,70",
    )
    assert drtools(*command(toy, encoder_folder, tmp_path / "whole", *words)).status == 0
    line = [program, *command(toy, encoder_folder, tmp_path / "killed", *words)]
    for pause, number in ((0.25, signal.SIGKILL), (0.1, signal.SIGTERM)):
        process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while (
            time.monotonic() < deadline
            and process.poll() is None
            and not list((tmp_path / "killed.partial/working").glob("checkpoint-*"))
        ):
            time.sleep(0.02)
        time.sleep(pause)
        assert kill(process, number) in (-number, 143, 0)
        process.stderr.close()
    assert subprocess.run(line, env=environment, capture_output=True).returncode == 0
    for part in (".", "snapshots/25", "snapshots/70"):
        for one, other in zip(weights(tmp_path / "whole" / part), weights(tmp_path / "killed" / part), strict=True):
            assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_minutes_end_it_and_make_a_snapshot(toy, encoder_folder, drtools, tmp_path):
    outcome = drtools(
        *command(
            toy,
            encoder_folder,
            tmp_path / "dam",
            "--minutes",
            "0.03",
            "--head-steps",
            "2",
            "--snapshot-minutes",
            "0.01",
        )
    )
    assert outcome.status == 0, outcome.err
    manifest = json.loads((tmp_path / "dam/manifest.json").read_text())
    (snapshot,) = manifest["snapshots"]
    assert 0.6 <= snapshot["seconds"] < 1.8 and 0 < snapshot["step"] < manifest["steps"]


def test_what_cannot_be_meant_is_said_in_one_line(toy, encoder_folder, drtools, tmp_path):
    for words, wanted in (
        (["--snapshot-steps", "20,10"], "rising whole numbers"),
        (["--snapshot-steps", "2.5"], "rising whole numbers"),
        (["--snapshot-minutes", "nan"], "rising numbers"),
        (["--snapshot-minutes", "1,inf"], "rising numbers"),
        (["--decoder-layers", "2"], "need --objective ed-mlm"),
        (["--decoder-mask-share", "0.5"], "need --objective ed-mlm"),
        (["--decoder-start", "random"], "need --objective ed-mlm"),
        (["--decoder-head", "own"], "need --objective ed-mlm"),
        (["--objective", "ed-mlm", "--decoder-layers", "3"], "the encoder has only 2 layers to copy"),
        (["--objective", "ed-mlm", "--decoder-mask-share", "0.2"], "use 0.3 or more"),
        (["--learning-rate", "0"], "expected more than 0"),
        (["--dev-documents", "50"], "half of them"),
        (["--crop-tokens", "100"], "64 positions"),
        (["--schedule-steps", "5", "--steps", "2"], "a constant rate does not fall"),
    ):
        outcome = drtools(*command(toy, encoder_folder, tmp_path / "dam", *words))
        assert outcome.status == 2 and wanted in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err


def test_a_snapshot_that_never_comes_and_a_body_that_never_learnt_are_said(toy, encoder_folder, drtools, tmp_path):
    outcome = drtools(
        *command(
            toy,
            encoder_folder,
            tmp_path / "short",
            "--minutes",
            "0.002",
            "--head-steps",
            "100000",
            "--snapshot-steps",
            "1,1000000",
            "--snapshot-minutes",
            "7",
        )
    )
    assert (
        outcome.status == 0
        and "no snapshot of step 1,000,000, minute 7" in outcome.err
        and "the body has not changed" in outcome.err
    ), outcome.err
    outcome = drtools(
        *command(toy, encoder_folder, tmp_path / "long", "--steps", "3", "--head-steps", "1", "--snapshot-steps", "1,4")
    )
    assert outcome.status == 0 and "no snapshot" not in outcome.err and "as it was" not in outcome.err, outcome.err


def test_what_was_settled_is_recorded_and_a_snapshot_knows_its_past(toy, encoder_folder, drtools, tmp_path):
    assert (
        drtools(
            *command(
                toy, encoder_folder, tmp_path / "first", "--steps", "3", "--head-steps", "2", "--snapshot-steps", "4"
            )
        ).status
        == 0
    )
    piped = [
        word if word != toy.corpus else "-"
        for word in command(toy, tmp_path / "first/snapshots/4", tmp_path / "second", "--steps", "2")
    ]
    assert drtools(*piped, stdin=Path(toy.corpus).read_bytes()).status == 0
    one, other = json.loads((tmp_path / "second/manifest.json").read_text())["adapted_on"]
    assert (one["head_steps"], one["steps"], one["kept_step"]) == (2, 2, 2) and one["corpus"] == "corpus.jsonl"
    assert (other["head_steps"], other["steps"], other["corpus"]) == (0, 2, "standard input") and other[
        "corpus_fingerprint"
    ] == one["corpus_fingerprint"]
    made = json.loads((tmp_path / "first/manifest.json").read_text())
    assert (
        made["mask_share"],
        made["decoder_mask_share"],
        made["stride"],
        made["crop_tokens"],
        made["learning_rate"],
    ) == (0.15, None, 1, 24, 1e-3)


def test_a_corpus_of_empty_texts_is_refused_as_such(toy, encoder_folder, drtools, tmp_path):
    toy.corpus = write_jsonl(tmp_path / "empty.jsonl", [{"_id": f"d{n}", "title": "", "text": " "} for n in range(20)])
    outcome = drtools(*command(toy, encoder_folder, tmp_path / "dam", "--steps", "3"))
    assert outcome.status == 2 and "all 20 documents are empty" in outcome.err and len(outcome.err.splitlines()) == 1


def test_dropout_asked_for_is_of_one_training_alone(toy, encoder_folder, drtools, tmp_path):
    own = json.loads((Path(encoder_folder) / "config.json").read_text())
    assert (
        drtools(
            *command(
                toy,
                encoder_folder,
                tmp_path / "dam",
                "--steps",
                "1",
                "--head-steps",
                "0",
                "--dropout",
                "0.4",
                "--snapshot-steps",
                "1",
            )
        ).status
        == 0
    )
    for folder in (tmp_path / "dam", tmp_path / "dam/snapshots/1"):
        saved = json.loads((folder / "config.json").read_text())
        assert {name: value for name, value in saved.items() if "dropout" in name} == {
            name: value for name, value in own.items() if "dropout" in name
        }
    assert own["hidden_dropout_prob"] == 0.1
    from torch import nn

    from drtools.models.loader import load_encoder

    def found(dropout):
        return {
            module.p
            for module in load_encoder(str(tmp_path / "dam"), dropout=dropout).body.modules()
            if isinstance(module, nn.Dropout)
        }

    assert found(None) == {0.1} and found(0.4) == {0.4}, "a later training has the body's own again"


def test_a_damaged_head_is_one_line(toy, encoder_folder, drtools, tmp_path):
    assert drtools(*command(toy, encoder_folder, tmp_path / "dam", "--steps", "1", "--head-steps", "0")).status == 0
    head = tmp_path / "dam/masked-head"
    whole = {name: (head / name).read_bytes() for name in ("model.safetensors", "config.json")}
    for name, damaged in (
        ("model.safetensors", whole["model.safetensors"][:100]),
        ("config.json", b"{}"),
        ("config.json", b'{"activation": "none such"}'),
        ("model.safetensors", None),
    ):
        for each, content in whole.items():
            (head / each).write_bytes(content)
        (head / name).unlink() if damaged is None else (head / name).write_bytes(damaged)
        outcome = drtools(*command(toy, tmp_path / "dam", tmp_path / "next", "--steps", "1", "--overwrite"))
        assert outcome.status == 2 and f"{head}" in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err


@pytest.mark.slow
def test_measuring_the_device_takes_no_minutes_from_the_training(toy, encoder_folder, drtools, tmp_path, monkeypatch):
    monkeypatch.setattr("drtools.training.meter.matmul_rate", lambda *what: time.sleep(1) or 1e9)
    words = command(toy, encoder_folder, tmp_path / "dam", "--minutes", "0.015", "--head-steps", "0")
    words[words.index("--dev-documents") + 1] = "0"
    assert drtools(*words).status == 0
    assert json.loads((tmp_path / "dam/manifest.json").read_text())["steps"] > 0
