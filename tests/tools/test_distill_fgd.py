"""distill-fgd from end to end on the toy collection.

It learns, every ablation runs, it continues, processes equal one.
"""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import changed_by_flags
from pieces_of import SIZE_FLAGS, cls_of, score_pieces
from preloaded import kill
from safetensors.numpy import load_file


@pytest.fixture
def start(toy, bert, tmp_path):
    model = cls_of(bert, tmp_path / "start")
    toy.scored = score_pieces(toy, model, tmp_path / "scored.jsonl")
    return model


@changed_by_flags
def command(toy, start, out, *more):
    return [
        "distill-fgd",
        "--model",
        start,
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--examples",
        toy.scored,
        "--batch-queries",
        "7",
        "--learning-rate",
        "1e-3",
        "--hard-negatives",
        "2",
        "--max-document-tokens",
        "64",
        "--precision",
        "fp32",
        "--threads",
        "1",
        *SIZE_FLAGS,
        "-o",
        str(out),
        *more,
    ]


@pytest.mark.slow
def test_it_learns_and_the_log_tells_the_parts(toy, start, drtools, tmp_path):
    arguments = command(
        toy,
        start,
        tmp_path / "fgd",
        "--steps",
        "60",
        "--evaluate-every-steps",
        "20",
        "--dev-qrels",
        toy.qrels,
        "--dropout",
        "0",
        "--lambda",
        "1",
        "--scale",
        "0.3",
        "--learning-rate",
        "3e-3",
    )
    outcome = drtools(*arguments)
    assert outcome.status == 0, outcome.err
    made = json.loads((tmp_path / "fgd/manifest.json").read_text())
    assert made["best"]["value"] > made["evaluations"][0]["nDCG@10"] + 0.05 and made["scored_by"] == "counts@1"
    log = [
        record
        for record in map(json.loads, (tmp_path / "fgd/training.jsonl").read_text().splitlines())
        if "loss" in record
    ]
    for name in ("contrastive", "passage KL", "sentence KL", "loss"):
        assert log[0][name] > log[-1][name] > 0
    again = drtools(*arguments)
    assert again.status == 0 and "already done" in again.err
    outcome = drtools("encode", "--model", tmp_path / "fgd", "--corpus", toy.corpus, "-o", tmp_path / "vectors")
    assert outcome.status == 0, outcome.err


@pytest.mark.slow
def test_every_ablation_runs_and_differs(toy, start, drtools, tmp_path):
    arms = {
        "fgd": [],
        "document-too": ["--levels", "document,passage,sentence"],
        "no-passages": ["--levels", "sentence"],
        "no-sentences": ["--levels", "passage"],
        "mean": ["--spans", "mean"],
        "rgat": ["--spans", "rgat"],
        "reverse": ["--kl", "student-teacher"],
        "lambda": ["--lambda", "1"],
    }
    weights = {}
    for name, more in arms.items():
        outcome = drtools(*command(toy, start, tmp_path / name, "--steps", "2", *more))
        assert outcome.status == 0, (name, outcome.err)
        weights[name] = load_file(tmp_path / name / "model.safetensors")["encoder.layer.1.attention.self.query.weight"]
    alone = [
        word
        for word in command(toy, start, tmp_path / "document", "--steps", "2", "--levels", "document")
        if word not in SIZE_FLAGS
    ]
    assert drtools(*alone).status == 0
    weights["document"] = load_file(tmp_path / "document/model.safetensors")[
        "encoder.layer.1.attention.self.query.weight"
    ]
    names = list(weights)
    assert all(
        not np.array_equal(weights[one], weights[other]) for at, one in enumerate(names) for other in names[at + 1 :]
    )


@pytest.mark.slow
def test_processes_equal_one(toy, start, drtools, tmp_path, several):
    words = ["--steps", "3", "--dropout", "0", "--spans", "rgat", "--levels", "document,passage,sentence"]
    assert drtools(*command(toy, start, tmp_path / "one", *words)).status == 0
    several(2, command(toy, start, tmp_path / "more", *words))
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "more"))
    for name, value in one.items():
        np.testing.assert_allclose(more[name], value, atol=1e-5)


def test_gradient_caching_changes_nothing_but_memory(toy, start, drtools, tmp_path):
    words = ["--steps", "3", "--dropout", "0", "--levels", "document,passage,sentence"]
    for name, more in (("whole", []), ("cached", ["--gradient-caching", "--batch-tokens", "64"])):
        outcome = drtools(*command(toy, start, tmp_path / name, *words, *more))
        assert outcome.status == 0, outcome.err
    whole, cached = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cached"))
    for (
        name,
        value,
    ) in whole.items():  # a step is of 1e-3; where a gradient is next to nothing AdamW makes much of its last bits
        assert np.abs(cached[name] - value).mean() < 2e-6, name


@pytest.mark.bits
@pytest.mark.slow
def test_killed_it_ends_in_the_same_weights(toy, start, drtools, tmp_path, program, environment):
    arguments = ("--steps", "16", "--save-every-minutes", "0", "--threads", "2", "--spans", "rgat")
    assert drtools(*command(toy, start, tmp_path / "whole", *arguments)).status == 0
    words = [program, *command(toy, start, tmp_path / "killed", *arguments)]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (
        time.monotonic() < deadline
        and process.poll() is None
        and not list((tmp_path / "killed.partial/working").glob("checkpoint-*"))
    ):
        time.sleep(0.01)
    assert kill(process) == -signal.SIGKILL
    assert drtools(*command(toy, start, tmp_path / "killed", *arguments)).status == 0
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_what_cannot_be_meant_is_refused(toy, start, encoder_folder, drtools, tmp_path):
    for model, more, words in (
        (start, ["--levels", "paragraph"], "expected some of document, passage, sentence"),
        (encoder_folder, [], "use --pooling cls"),
        (start, ["--passage-tokens", "4"], "a sentence is part of a passage"),
        (start, ["--examples", toy.examples], "teacher-score"),
        (start, ["--sentence-tokens", "7"], "but this encoder cuts it into"),
        (
            start,
            ["--levels", "document", "--spans", "mean"],
            "--spans and --passage-tokens and --sentence-tokens and --least-piece-tokens: this is for pieces, "
            "which --levels document does not use",
        ),
        (start, ["--levels", "document", "--negative-pieces", "3"], "--negative-pieces and"),
    ):
        outcome = drtools(*command(toy, model, tmp_path / "out", "--steps", "1", *more))
        assert outcome.status == 2 and words in outcome.err and "Traceback" not in outcome.err, outcome.err


def test_pieces_are_scored_alone_and_trained_on(toy, start, rankers, drtools, tmp_path):
    from sentence_transformers import CrossEncoder

    sizes = [*SIZE_FLAGS, "--pieces-max-document-tokens", "64"]
    score = [
        "teacher-score",
        "--teacher",
        rankers["bert"],
        "--examples",
        toy.examples,
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--precision",
        "fp32",
    ]
    outcome = drtools(*score, "--pieces", start, *sizes, "-o", tmp_path / "taught.jsonl")
    assert outcome.status == 0, outcome.err
    queries = {record["_id"]: record["text"] for record in map(json.loads, Path(toy.queries).read_text().splitlines())}
    texts = {document["_id"]: f"{document['title']} {document['text']}" for document in toy.documents}
    scored, counted = (
        list(map(json.loads, Path(path).read_text().splitlines())) for path in (tmp_path / "taught.jsonl", toy.scored)
    )
    for record, other in zip(scored, counted, strict=True):
        assert record["pieces"] == other["pieces"] and {piece["id"] for piece in record["pieces"]} == {
            *record["positives"],
            *record["negatives"],
        }
    pairs = [
        (queries[scored[0]["query_id"]], texts[piece["id"]][piece["start"] : piece["end"]])
        for piece in scored[0]["pieces"]
    ]
    np.testing.assert_allclose(
        scored[0]["piece_scores"], CrossEncoder(rankers["bert"], device="cpu").predict(pairs), atol=1e-5
    )
    toy.scored = str(tmp_path / "taught.jsonl")
    assert drtools(*command(toy, start, tmp_path / "fgd", "--steps", "1")).status == 0
    (tmp_path / "a.run").write_text("q3 Q0 d3 1 9 x\n")
    by_run = [word for word in score if word not in ("--examples", toy.examples)]
    for words, more in (
        (["has 64 positions"], [*score, "--pieces", start, "--pieces-max-document-tokens", "65"]),
        (["--pieces is for --examples"], [*by_run, "--pieces", start, "--run", tmp_path / "a.run"]),
    ):
        outcome = drtools(*more, "-o", tmp_path / "refused")
        assert outcome.status == 2 and all(word in outcome.err for word in words), outcome.err


def test_another_cut_is_refused_before_training(toy, start, rankers, drtools, tmp_path):
    score = [
        "teacher-score",
        "--teacher",
        rankers["bert"],
        "--examples",
        toy.examples,
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--pieces",
        start,
        *SIZE_FLAGS,
        "--precision",
        "fp32",
    ]
    outcome = drtools(
        *score,
        "--pieces-max-document-tokens",
        "60",
        "--pieces-document-prompt",
        "the: ",
        "-o",
        tmp_path / "taught.jsonl",
    )
    assert outcome.status == 0, outcome.err
    toy.scored = str(tmp_path / "taught.jsonl")
    fitting = ["--max-document-tokens", "60", "--document-prompt", "the: "]
    assert drtools(*command(toy, start, tmp_path / "fitting", "--steps", "3", *fitting)).status == 0
    for more, words in (
        (["--max-document-tokens", "61"], "cut with --max-document-tokens 60, here 61;"),
        (["--document-prompt", ""], "cut with --document-prompt 'the: ', here '';"),
        (["--least-piece-tokens", "2"], "cut with --least-piece-tokens 3, here 2;"),
        (["--title-separator", "|"], "cut with --title-separator ' ', here '|';"),
    ):
        outcome = drtools(*command(toy, start, tmp_path / "out", "--steps", "1", *fitting, *more))
        assert outcome.status == 2 and words in outcome.err and "run teacher-score --pieces again" in outcome.err, (
            outcome.err
        )


@pytest.mark.slow
def test_an_encoder_remembers_its_pieces(toy, start, drtools, tmp_path):
    for spans in ("mean", "rgat"):
        outcome = drtools(*command(toy, start, tmp_path / spans, "--steps", "1", "--spans", spans))
        assert outcome.status == 0, outcome.err
    sizes = {"passage_tokens": 16, "sentence_tokens": 8, "least_piece_tokens": 3}
    assert json.loads((tmp_path / "mean/drtools.json").read_text())["pieces"] == {"spans": "mean", **sizes}
    encode = ["encode", "--corpus", toy.corpus, "--pieces", "--precision", "fp32", "--dtype", "float32"]
    outcome = drtools(*encode, "--model", tmp_path / "mean", "-o", tmp_path / "as-trained")
    assert outcome.status == 0 and "was trained" not in outcome.err, outcome.err
    outcome = drtools(*encode, "--model", tmp_path / "mean", "--spans", "mean", *SIZE_FLAGS, "-o", tmp_path / "said")
    assert outcome.status == 0 and "was trained" not in outcome.err, outcome.err
    assert (tmp_path / "said/pieces.npy").read_bytes() == (tmp_path / "as-trained/pieces.npy").read_bytes()
    made = json.loads((tmp_path / "as-trained/manifest.json").read_text())["pieces"]
    assert made.pop("count") > 60 and made == {"spans": "mean", **sizes}
    outcome = drtools(
        *encode,
        "--model",
        tmp_path / "mean",
        "--spans",
        "attention",
        "--sentence-tokens",
        "7",
        "-o",
        tmp_path / "other",
    )
    assert (
        outcome.status == 0
        and "was trained: spans attention (trained: mean), sentence-tokens 7 (trained: 8)" in outcome.err
    ), outcome.err
    outcome = drtools(*encode, "--model", tmp_path / "rgat", "-o", tmp_path / "x")
    assert outcome.status == 2 and "with a graph" in outcome.err and "use --spans mean" in outcome.err, outcome.err


def test_a_dry_run_of_pieces_counts_them(toy, start, drtools, tmp_path):
    encode = ["encode", "--model", start, "--corpus", toy.corpus, "--dtype", "float32", "--pieces"]
    outcome = drtools(*encode, *SIZE_FLAGS, "-o", tmp_path / "vectors")
    made = json.loads((tmp_path / "vectors/manifest.json").read_text())
    planned = drtools(*encode, *SIZE_FLAGS, "--dry-run", "-o", tmp_path / "planned")
    assert (
        outcome.status == planned.status == 0
        and f"60 documents and about {made['pieces']['count']} pieces" in planned.err
    ), planned.err
    outcome = drtools(*encode, "--sentence-tokens", "300", "--dry-run", "-o", tmp_path / "planned")
    assert outcome.status == 2 and "a sentence is part of a passage" in outcome.err
    for more in (["--spans", "mean"], ["--sentence-tokens", "300"]):
        outcome = drtools(*encode[:-1], *more, "-o", tmp_path / "x")
        assert outcome.status == 2 and f"{more[0]}: this needs --pieces" in outcome.err, outcome.err


def test_a_lexical_encoder_has_no_pieces(toy, drtools, tmp_path):
    assert drtools("make-lexical", "--corpus", toy.corpus, "--dimension", "20", "-o", tmp_path / "lexical").status == 0
    for more in ([], ["--dry-run"]):
        outcome = drtools(
            "encode",
            "--model",
            tmp_path / "lexical",
            "--corpus",
            toy.corpus,
            "--pieces",
            *more,
            "-o",
            tmp_path / "x",
        )
        assert outcome.status == 2 and "is a lexical encoder" in outcome.err, outcome.err
