"""ADAM's Makefile: every command that it would run is one that the tools take.

Its chain runs on a toy collection, from runs made elsewhere.
"""

import json
from functools import partial
from pathlib import Path

import makefiles
import numpy as np
import pytest
from makefiles import parsed

make, printed = partial(makefiles.make, "adam"), partial(makefiles.printed, "adam")
TABLE = {"rand-kd", "hard-kd", "adam", "no-pacing", "no-reinforced", "no-noisy"}
ABLATION = {"adam", "no-pacing", "no-reinforced", "no-noisy", "no-dark", "no-supervised"}


@pytest.fixture
def published(tmp_path):
    return makefiles.published_in(tmp_path / "msmarco")


@pytest.mark.parametrize("collection", ["passages", "own"])
@pytest.mark.parametrize(
    ("target", "arms"),
    [("table", TABLE), ("ablation", ABLATION), ("reranked", ABLATION), ("pictures", TABLE), ("teacher", set())],
)
def test_every_command_is_one_that_the_tools_take(published, beir, collection, target, arms):
    where = f"DATA={beir}" if collection == "own" else f"MSMARCO={published}"
    commands = printed(target, where, "SEEDS=1 2", folder=beir)
    assert all(words[0] == "eval" or "--renew" in words for words in commands)
    values = [(words[0], parsed(words)) for words in commands]
    made = [given["output"] for tool, given in values if tool != "eval"]
    assert len(set(made)) == len(made)
    students = {Path(given["output"]).name for tool, given in values if tool == "distill-adam"}
    assert students == {f"{arm}-{seed}" for arm in arms for seed in (1, 2)}
    tables = [Path(words[-1]).name for words in commands if words[0] == "eval"]
    assert (
        len(set(tables))
        == len(tables)
        == {"table": 4, "ablation": 2, "reranked": 2, "teacher": 1, "pictures": 0}[target]
        * (1 if collection == "own" else 2)
    )


def test_the_papers_settings(published):
    commands = printed("ablation", f"MSMARCO={published}", folder=published)
    students = {Path(parsed(words)["output"]).name: parsed(words) for words in commands if words[0] == "distill-adam"}
    expected = {
        "learning_rate": 5e-5,
        "batch_queries": 128,
        "max_query_tokens": 32,
        "max_document_tokens": 128,
        "optimizer": "adamw",
        "warmup_steps": None,
        "kl": "forward",
        "reduction": "mean",
        "with_positive": False,
        "model": "adam/start",
    }
    assert all({name: values[name] for name in expected} == expected for values in students.values())
    assert {
        name: (values["pacing"], tuple(values["without"] or ()), values["supervised_weight"])
        for name, values in students.items()
    } == {
        "adam-1": ("epochs", (), 0.01),
        "no-pacing-1": ("none", (), 0.01),
        "no-reinforced-1": ("epochs", ("reinforced",), 0.01),
        "no-noisy-1": ("epochs", ("noisy",), 0.01),
        "no-dark-1": ("epochs", ("reinforced", "noisy"), 0.01),
        "no-supervised-1": ("epochs", (), 0),
    }
    dark = parsed(next(words for words in commands if words[0] == "make-dark-examples"))
    assert (dark["negatives"], dark["ratios"]) == (10, "0.15,0.25,0.35,0.45,0.55")


def test_a_collection_of_ones_own_is_distilled_with_the_positive(beir):
    arms = [
        "adam",
        "no-pacing",
        "no-reinforced",
        "no-noisy",
        "no-dark",
        "no-supervised",
        "with-positive",
        "without-positive",
    ]
    for more, expected in ([], True), (["POSITIVE="], False):
        commands = printed("table", f"DATA={beir}", f"ARMS={' '.join(arms)}", *more, folder=beir)
        has = {
            Path(parsed(words)["output"]).name[:-2]: parsed(words)["with_positive"]
            for words in commands
            if words[0] == "distill-adam"
        }
        assert has == dict.fromkeys(arms, expected) | {"with-positive": True, "without-positive": False}


def test_arms_of_equal_tokens(beir):
    commands = printed("table", f"DATA={beir}", "M=4", "STEPS=50", folder=beir)
    steps = {
        Path(parsed(words)["output"]).name: parsed(words)["steps"] for words in commands if words[0] == "distill-adam"
    }
    assert steps == {
        "rand-kd-1": 180,
        "hard-kd-1": 180,
        "adam-1": 50,
        "no-pacing-1": 50,
        "no-reinforced-1": 90,
        "no-noisy-1": 69,
    }
    commands = printed("table", f"DATA={beir}", "STEPS=50", "EQUAL=steps", folder=beir)
    assert {parsed(words)["steps"] for words in commands if words[0] == "distill-adam"} == {50}


def test_models_and_runs_of_ones_own(beir):
    for name in ("train", "dev", "test"):
        (beir / f"{name}.run").touch()
    commands = printed(
        "table",
        f"DATA={beir}",
        "TEACHER=one/teacher another/one",
        "START=some/encoder",
        *(f"{name.upper()}_RUN={beir}/{name}.run" for name in ("train", "dev", "test")),
        folder=beir,
    )
    assert {words[0] for words in commands} == {
        "encode",
        "mine-negatives",
        "make-dark-examples",
        "teacher-score",
        "distill-adam",
        "search",
        "eval",
    }
    assert {tuple(parsed(words)["teacher"]) for words in commands if words[0] == "teacher-score"} == {
        ("one/teacher", "another/one")
    }
    assert {parsed(words)["model"] for words in commands if words[0] == "distill-adam"} == {"some/encoder"}


def test_what_cannot_be_meant_is_said(beir, tmp_path):
    assert "say MSMARCO=" in make(folder=tmp_path).stderr
    assert "ARMS: best, expected some of rand-kd" in make(f"DATA={beir}", "ARMS=best", folder=tmp_path).stderr


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools):
    """The commands are those that make prints, in its order, in this process.

    Then make itself finds nothing left to do.
    """
    draw, given = np.random.default_rng(1), []
    for split in ("train", "dev", "test"):
        queries = [line.split("\t")[0] for line in (beir / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]]
        lines = [
            f"{query} Q0 d{document} {rank} {60 - rank} x\n"
            for query in queries
            for rank, document in enumerate(draw.permutation(60)[:20], start=1)
        ]
        (beir / f"{split}.run").write_text("".join(lines))
        given.append(f"{split.upper()}_RUN={beir / f'{split}.run'}")
    words = [
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"MODEL={encoder_folder}",
        *given,
        "ARMS=rand-kd hard-kd adam",
        "STEPS=2",
        "BATCH=4",
        "M=2",
        "DOCUMENT_TOKENS=32",
        "QUERY_TOKENS=16",
        "ENCODE_DOCUMENT_TOKENS=60",
        "RANKER_STEPS=2",
        "RANKER_DOCUMENT_TOKENS=30",
        "EQUAL=steps",
    ]
    makefiles.run_all(printed("table", "teacher", "pictures", *words, folder=beir), drtools)
    again = make("table", "teacher", "pictures", *words, folder=beir)
    assert again.returncode == 0, again.stderr
    assert "drtools " not in again.stdout, again.stdout
    for run in ("start", "rand-kd-1", "hard-kd-1", "adam-1", "teacher"):
        assert f"test/{run}.run" in again.stdout
    for picture in ("scores/soft-labels.png", "scores/scores.png", "agreement-1/agreement.png"):
        assert (beir / "out" / picture).exists()
    agreement = json.loads((beir / "out/agreement-1/analysis.json").read_text())["agreement"]
    assert list(agreement) == ["encoder", "rand-kd-1", "hard-kd-1", "adam-1"]
