"""train-rem and what takes a REM, from end to end: one REM on several bodies, encode, search, train-adore, merge."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import train_rem as command
from preloaded import kill
from safetensors.numpy import load_file


def encode(drtools, toy, out, *encoder, side="documents"):
    done = drtools(
        "encode",
        *encoder,
        f"--{side}",
        toy.corpus if side == "documents" else toy.queries,
        "--dtype",
        "float32",
        "--precision",
        "fp32",
        "-o",
        out,
    )
    assert done.status == 0, done.err
    return np.load(out / "vectors.npy")


@pytest.fixture
def dam(toy, encoder_folder, drtools, tmp_path):
    """A body adapted from the REM's."""
    done = drtools(
        "mlm-adapt",
        "--model",
        encoder_folder,
        "--corpus",
        toy.corpus,
        "--steps",
        "4",
        "--head-steps",
        "2",
        "--learning-rate",
        "1e-3",
        "--dev-documents",
        "5",
        "-o",
        tmp_path / "dam",
    )
    assert done.status == 0, done.err
    return tmp_path / "dam"


def scored(toy, by="toy@1", missing=None):
    examples = [json.loads(line) for line in Path(toy.examples).read_text().splitlines()]
    for number, example in enumerate(examples):
        example |= {
            "positive_scores": [4.0],
            "negative_scores": [0.0, -1.0, missing if number == 0 else -2.0],
            **({"scored_by": by} if by else {}),
        }
    Path(toy.examples).write_text("".join(json.dumps(example) + "\n" for example in examples))


@pytest.mark.slow
def test_one_rem_serves_several_bodies(toy, encoder_folder, dam, drtools, tmp_path):
    done = drtools(
        *command(
            toy,
            encoder_folder,
            tmp_path / "rem",
            "--steps",
            "30",
            "--evaluate-every-steps",
            "10",
            "--dev-qrels",
            toy.qrels,
        )
    )
    assert done.status == 0, done.err
    made = json.loads((tmp_path / "rem/manifest.json").read_text())
    values = [evaluation["nDCG@10"] for evaluation in made["evaluations"]]
    assert max(values) > values[0] + 0.05 and made["kind"] == "rem" and made["steps"] == 30
    assert (
        made["parameters"] == 2 * (2 * 4 * 64 + 2 * 32 * 8 + 8 + 32)
        and f"a REM of {made['parameters']:,} parameters" in done.err
    )
    assert {path.name for path in (tmp_path / "rem").iterdir()} == {
        "rem.safetensors",
        "drtools.json",
        "manifest.json",
        "training.jsonl",
    }
    rates = {
        json.loads(line).get("learning_rate") for line in (tmp_path / "rem/training.jsonl").read_text().splitlines()
    } - {None}
    assert rates == {0.01}, "constant, no warm-up"
    rem = ["--rem", tmp_path / "rem"]
    on_source = encode(drtools, toy, tmp_path / "on-source", "--body", encoder_folder, *rem)
    on_target = encode(drtools, toy, tmp_path / "on-target", "--body", dam, *rem)
    plain = encode(drtools, toy, tmp_path / "plain", "--model", dam)
    assert np.abs(on_source - on_target).max() > 1e-3 and np.abs(on_target - plain).max() > 1e-3
    run = drtools(
        "search",
        "--vectors",
        tmp_path / "on-target",
        "--queries",
        toy.queries,
        "--precision",
        "fp32",
        "-o",
        tmp_path / "run",
    )
    named = drtools(
        "search",
        "--vectors",
        tmp_path / "on-target",
        "--body",
        dam,
        *rem,
        "--queries",
        toy.queries,
        "--precision",
        "fp32",
        "-o",
        tmp_path / "named.run",
    )
    assert run.status == named.status == 0 and (tmp_path / "run").read_text() == (tmp_path / "named.run").read_text(), (
        "the vectors name body and REM"
    )
    for others in (["--model", dam], ["--body", encoder_folder, *rem]):
        refused = drtools(
            "search",
            "--vectors",
            tmp_path / "on-target",
            *others,
            "--queries",
            toy.queries,
            "-o",
            tmp_path / "other.run",
        )
        assert refused.status == 2 and "search with the encoder that made them" in refused.err
    assert (
        drtools("index", "--vectors", tmp_path / "on-target", "--factory", "Flat", "-o", tmp_path / "index").status == 0
    )
    found = drtools("search", "--index", tmp_path / "index", "--precision", "fp32", "fox runs")
    assert found.status == 0, found.err


@pytest.mark.slow
def test_merged_it_is_the_same_encoder_everywhere(toy, encoder_folder, dam, drtools, tmp_path):
    from sentence_transformers import SentenceTransformer

    assert drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "8")).status == 0
    done = drtools("merge", "--body", dam, "--rem", tmp_path / "rem", "-o", tmp_path / "merged")
    assert done.status == 0, done.err
    pair = encode(drtools, toy, tmp_path / "pair", "--body", dam, "--rem", tmp_path / "rem")
    merged = encode(drtools, toy, tmp_path / "one", "--model", tmp_path / "merged")
    np.testing.assert_allclose(merged, pair, atol=1e-5)
    texts = [f"{document['title']} {document['text']}" for document in toy.documents]
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "merged"), device="cpu").encode(texts), pair, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", ["rem", "all"])
def test_adore_tunes_an_encoder_with_a_rem(toy, encoder_folder, dam, drtools, tmp_path, part):
    assert drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "4")).status == 0
    both = ["--body", dam, "--rem", tmp_path / "rem"]
    encode(drtools, toy, tmp_path / "vectors", *both)
    done = drtools(
        "train-adore",
        *both,
        "--train",
        part,
        "--vectors",
        tmp_path / "vectors",
        "--queries",
        toy.queries,
        "--qrels",
        toy.qrels,
        "--learning-rate",
        "3e-3",
        "--batch-queries",
        "8",
        "--dev-qrels",
        toy.qrels,
        "--steps",
        "20",
        "-o",
        tmp_path / "adore",
    )
    assert done.status == 0, done.err
    values = [
        evaluation["nDCG@10"]
        for evaluation in json.loads((tmp_path / "adore/manifest.json").read_text())["evaluations"]
    ]
    assert max(values) > values[0]
    found = drtools(
        "search",
        "--vectors",
        tmp_path / "vectors",
        "--model",
        tmp_path / "adore",
        "--queries",
        toy.queries,
        "-o",
        tmp_path / "run",
    )
    assert found.status == 0, found.err
    before, after = load_file(dam / "model.safetensors"), load_file(tmp_path / "adore/model.safetensors")
    key = "encoder.layer.0.attention.self.key.weight"  # no part of a REM
    assert np.array_equal(before[key], after[key]) is (part == "rem")


@pytest.mark.slow
def test_a_rem_that_a_distillation_trains_goes_on_other_bodies_too(toy, encoder_folder, dam, drtools, tmp_path):
    assert drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "4")).status == 0
    scored(toy, missing=-2.0)
    both = ["--body", dam, "--rem", tmp_path / "rem"]
    words = [
        "--examples",
        toy.examples,
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--baseline",
        "hard-kd",
        "--learning-rate",
        "3e-3",
        "--batch-queries",
        "8",
        "--max-document-tokens",
        "60",
        "--steps",
        "6",
    ]
    done = drtools("distill-adam", *both, *words, "-o", tmp_path / "student")
    assert done.status == 0, done.err
    folded = encode(drtools, toy, tmp_path / "folded", "--model", tmp_path / "student")
    apart = encode(drtools, toy, tmp_path / "apart", "--body", dam, "--rem", tmp_path / "student/rem")
    before = encode(drtools, toy, tmp_path / "before", *both)
    np.testing.assert_allclose(folded, apart, atol=1e-5)
    assert np.abs(apart - before).max() > 1e-3
    other = encode(drtools, toy, tmp_path / "other", "--body", encoder_folder, "--rem", tmp_path / "student/rem")
    assert np.abs(other - apart).max() > 1e-3
    assert drtools("distill-adam", *both, "--train", "all", *words, "-o", tmp_path / "all").status == 0
    assert not (tmp_path / "all/rem").exists(), "its body changed with it"


@pytest.mark.slow
def test_margins_of_a_teacher(toy, encoder_folder, drtools, tmp_path):
    words = ["--loss", "margin-mse", "--hard-negatives", "2", "--steps", "20"]
    refused = drtools(*command(toy, encoder_folder, tmp_path / "rem", *words))
    assert refused.status == 2 and "run teacher-score" in refused.err and "--accept-scores" in refused.err
    without = drtools(*command(toy, encoder_folder, tmp_path / "rem", *words, "--accept-scores"))
    assert without.status == 2 and "no query has both a positive and a negative with a score" in without.err
    scored(toy, by=None)
    assert drtools(*command(toy, encoder_folder, tmp_path / "any", *words, "--accept-scores")).status == 0
    scored(toy)
    done = drtools(*command(toy, encoder_folder, tmp_path / "rem", *words))
    assert done.status == 0 and "1 document of the examples has no score" in done.err, done.err
    losses = [json.loads(line)["loss"] for line in (tmp_path / "rem/training.jsonl").read_text().splitlines()]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert (tmp_path / "any/rem.safetensors").read_bytes() == (tmp_path / "rem/rem.safetensors").read_bytes()


@pytest.mark.bits
@pytest.mark.slow
def test_killed_it_ends_in_the_same_weights(toy, encoder_folder, drtools, tmp_path, program, environment):
    words = ("--steps", "60", "--save-every-minutes", "0", "--dev-qrels", toy.qrels)
    assert drtools(*command(toy, encoder_folder, tmp_path / "whole", *words)).status == 0
    line = [program, *command(toy, encoder_folder, tmp_path / "killed", *words)]
    process = subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (
        time.monotonic() < deadline
        and process.poll() is None
        and not list((tmp_path / "killed.partial/working").glob("checkpoint-*"))
    ):
        time.sleep(0.02)
    time.sleep(0.1)
    kill(process)
    assert drtools(*command(toy, encoder_folder, tmp_path / "killed", *words)).status == 0
    assert (tmp_path / "whole/rem.safetensors").read_bytes() == (tmp_path / "killed/rem.safetensors").read_bytes()


def test_what_cannot_be_meant_is_said_in_one_line(toy, encoder_folder, drtools, tmp_path):
    assert drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "1")).status == 0
    rem = ["--rem", tmp_path / "rem"]
    for words, wanted in (
        (
            command(toy, encoder_folder, tmp_path / "x", "--lora-rank", "0", "--adapter-size", "0"),
            "nothing would be left",
        ),
        (
            command(toy, encoder_folder, tmp_path / "x", "--loss", "margin-mse", "--hard-negatives", "0"),
            "margins need negatives",
        ),
        (["encode", "--corpus", toy.corpus, "--body", encoder_folder, "-o", tmp_path / "x"], "--body alone"),
        (["encode", "--corpus", toy.corpus, *rem, "-o", tmp_path / "x"], "--rem alone"),
        (
            ["encode", "--corpus", toy.corpus, "--model", encoder_folder, *rem, "-o", tmp_path / "x"],
            "--model with",
        ),
        (["encode", "--corpus", toy.corpus, "-o", tmp_path / "x"], "no encoder was given"),
        (["merge", "--model", encoder_folder, "-o", tmp_path / "x"], "nothing to merge"),
        (
            ["mlm-adapt", "--corpus", toy.corpus, "--body", encoder_folder, *rem, "-o", tmp_path / "x"],
            "adapted without its REM",
        ),
        (
            [
                "train-contrastive",
                *toy.training,
                "--body",
                encoder_folder,
                *rem,
                "--lora-rank",
                "2",
                "-o",
                tmp_path / "x",
            ],
            "has its own LoRA",
        ),
        (
            [
                "train-rem",
                *toy.training,
                "--body",
                encoder_folder,
                *rem,
                "-o",
                tmp_path / "x",
            ],
            "trained on a body without one",
        ),
    ):
        outcome = drtools(*words)
        assert outcome.status == 2 and wanted in outcome.err and len(outcome.err.strip().splitlines()) == 1, outcome.err


def test_a_checkpoint_holds_what_learns(toy, encoder_folder, drtools, tmp_path, monkeypatch):
    from drtools.training import loop

    seen = []
    plain = loop.save_tensors
    monkeypatch.setattr(
        loop, "save_tensors", lambda path, *what: (plain(path, *what), seen.append(set(load_file(path))))
    )
    assert (
        drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "4", "--dev-qrels", toy.qrels)).status == 0
    )
    parameters = {name for names in seen for name in names if name.startswith("model.")}
    assert len(seen) > 2 and parameters and all("lora_" in name or ".adapter." in name for name in parameters), (
        "not the body, which the start still holds"
    )


def test_a_pair_is_refused_by_each_side_too(toy, encoder_folder, drtools, tmp_path):
    assert drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "1")).status == 0
    done = drtools(
        "train-contrastive",
        "--untied",
        "--model",
        encoder_folder,
        *toy.training,
        "--steps",
        "1",
        "-o",
        tmp_path / "pair",
    )
    assert done.status == 0, done.err
    both = ["--body", tmp_path / "pair", "--rem", tmp_path / "rem"]
    encode(drtools, toy, tmp_path / "vectors", "--model", tmp_path / "pair")
    for words in (
        ["encode", *both, "--corpus", toy.corpus],
        ["encode", *both, "--queries", toy.queries],
        [
            "train-adore",
            *both,
            "--vectors",
            tmp_path / "vectors",
            "--queries",
            toy.queries,
            "--qrels",
            toy.qrels,
            "--steps",
            "1",
        ],
    ):
        refused = drtools(*words, "-o", tmp_path / "x")
        assert refused.status == 2 and "a pair of encoders, which cannot have a REM" in refused.err, refused.err


@pytest.mark.slow
def test_a_rem_that_is_in_the_weights_already_is_not_put_on_twice(toy, encoder_folder, dam, drtools, tmp_path):
    assert drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "2")).status == 0
    assert drtools("merge", "--body", dam, "--rem", tmp_path / "rem", "-o", tmp_path / "merged").status == 0
    done = drtools(
        "encode",
        "--body",
        tmp_path / "merged",
        "--rem",
        tmp_path / "rem",
        "--corpus",
        toy.corpus,
        "-o",
        tmp_path / "twice",
    )
    assert done.status == 2 and "is already folded into its weights" in done.err, done.err
    assert drtools(*command(toy, tmp_path / "merged", tmp_path / "second", "--steps", "2")).status == 0
    assert (
        drtools(
            "encode",
            "--body",
            tmp_path / "merged",
            "--rem",
            tmp_path / "second",
            "--corpus",
            toy.corpus,
            "-o",
            tmp_path / "vectors",
        ).status
        == 0
    ), "another REM may go on top"


def test_patience_needs_something_to_wait_for(toy, encoder_folder, drtools, tmp_path):
    done = drtools(*command(toy, encoder_folder, tmp_path / "rem", "--steps", "2", "--patience", "2"))
    assert done.status == 2 and "--patience 2: without dev queries nothing is measured" in done.err, done.err
