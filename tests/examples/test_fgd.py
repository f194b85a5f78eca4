"""FGD's Makefile.

Every command is one that the tools take, the settings are the paper's, and the chain runs on a toy collection.
"""

from functools import partial
from pathlib import Path

import makefiles
import pytest
from makefiles import parsed

from drtools.flags import PieceFlags

make, printed = partial(makefiles.make, "fgd"), partial(makefiles.printed, "fgd")
ARMS = {"contrastive", "document", "fgd", "no-passages", "no-sentences", "mean", "rgat"}


@pytest.fixture
def published(tmp_path):
    return makefiles.published_in(tmp_path / "msmarco")


@pytest.mark.parametrize("collection", ["documents", "own"])
def test_every_command_is_one_that_the_tools_take(published, beir, collection):
    where = [f"DATA={beir}"] if collection == "own" else [f"MSMARCO={published}"]
    commands = printed("table", "analysis", *where, "SEEDS=1 2", folder=beir)
    values = [parsed(words) for words in commands if words[0] != "eval"]
    assert all("--renew" in words for words in commands if words[0] != "eval")
    outputs = [each["output"] for each in values]
    assert len(set(outputs)) == len(outputs) and {f"fgd/{arm}-{seed}" for arm in ARMS for seed in (1, 2)} <= set(
        outputs
    )
    for arm in ("fgd", "contrastive"):
        assert next(each for each in values if each["output"] == f"fgd/{arm}-2")["seed"] == 2


def test_distillation_has_the_papers_settings(published):
    commands = printed(f"MSMARCO={published}", folder=published)
    values = parsed(next(words for words in commands if words[0] == "distill-fgd" and words[-1].endswith("/fgd-42")))
    expected = {
        "learning_rate": 3e-6,
        "batch_queries": 64,
        "hard_negatives": 8,
        "epochs": 20,
        "warmup_steps": 1000,
        "weight_decay": 0.01,
        "max_document_tokens": 512,
        "max_query_tokens": 32,
        "passage_tokens": None,
        "sentence_tokens": None,
        "levels": "passage,sentence",
        "spans": None,
        "optimizer": "adamw",
    }
    assert {name: values[name] for name in expected} == expected
    assert PieceFlags().settled({}) == PieceFlags(passage_tokens=128, sentence_tokens=64, least_piece_tokens=16)


def test_each_arm_is_what_its_name_says(published):
    arms = {
        "document": {"levels": "document"},
        "document-too": {"levels": "document,passage,sentence"},
        "no-passages": {"levels": "sentence"},
        "no-sentences": {"levels": "passage"},
        "mean": {"spans": "mean"},
        "rgat": {"spans": "rgat"},
        "reverse": {"kl": "student-teacher"},
        "fgd": {},
    }
    usual = {"levels": "passage,sentence", "spans": None, "kl": "teacher-student"}
    commands = printed(f"MSMARCO={published}", f"ARMS={' '.join(arms)}", folder=published)
    found = {
        words[-1].rsplit("/", 1)[1].removesuffix("-42"): parsed(words)
        for words in commands
        if words[0] == "distill-fgd"
    }
    assert {name: {flag: values[flag] for flag in usual} for name, values in found.items()} == {
        name: usual | more for name, more in arms.items()
    }


def test_the_curve_of_gamma_is_drawn_on_dev(published, beir):
    for where, folder in ((f"MSMARCO={published}", published), (f"DATA={beir}", beir)):
        commands = printed("analysis", where, folder=folder)
        curve = next(parsed(words) for words in commands if words[0] == "analyze" and "--tuned" in words)
        assert [words[words.index("--tune") + 1] for words in commands if words[-1] in curve["tuned"]] == [
            f"{published}/msmarco-docdev-qrels.tsv" if folder == published else f"{beir}/qrels/dev.tsv"
        ]


def test_what_was_made_elsewhere_is_taken(beir, tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("train", "test"):
        (tmp_path / "runs" / f"{name}.run").touch()
    commands = printed(
        f"DATA={beir}",
        f"BM25={tmp_path / 'runs'}",
        "TEACHER=some/ranker",
        "START=some/encoder",
        "ARMS=fgd",
        folder=beir,
    )
    assert [words[0] for words in commands] == [
        "encode",
        "mine-negatives",
        "teacher-score",
        "distill-fgd",
        "encode",
        "search",
        "search",
        "teacher-score",
        "eval",
    ]
    assert {value for words in commands for value in parsed(words).get("teacher") or () if words[0] != "eval"} == {
        "some/ranker"
    }


def test_what_cannot_be_meant_is_said(tmp_path):
    assert "say MSMARCO=" in make(folder=tmp_path).stderr


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools, tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("train", "test"):  # so that the test needs no Java
        (tmp_path / "runs" / f"{name}.run").write_text(
            "".join(
                f"q{query} Q0 d{(query + step) % 60} 1 {30 - step} x\n"
                for query in range(20)
                for step in range(0, 30, 3)
            )
        )
    words = [
        "table",
        "analysis",
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"MODEL={encoder_folder}",
        f"BM25={tmp_path / 'runs'}",
        "BUDGET=--steps 1",
        "BATCH=4",
        "DOCUMENT_TOKENS=60",
        "NEGATIVES=2",
        "SIZES=--passage-tokens 16 --sentence-tokens 8 --least-piece-tokens 3",
    ]
    makefiles.run_all(printed(*words, folder=beir), drtools)
    again = make(*words, folder=beir)
    assert again.returncode == 0 and "drtools " not in again.stdout, again.stderr + again.stdout
    table = Path(beir / "out/test-42.txt").read_text()
    for name in (*ARMS, "multi-vector", "teacher", "start"):
        assert name in table
