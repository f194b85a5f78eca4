"""SPAR's Makefile: every command that it would run on the published files is one that the tools take.

Its chain runs on a toy collection.
"""

import json
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import makefiles
import pytest
from makefiles import parsed

FOLDER = makefiles.EXAMPLES / "spar"
NQ = ["psgs_w100.tsv", "nq-dev.qa.csv", "nq-test.qa.csv", "biencoder-nq-train.json"]
MSMARCO = [
    "collection.tsv",
    "queries.train.tsv",
    "queries.dev.tsv",
    "queries.dev.small.tsv",
    "qrels.train.tsv",
    "qrels.dev.tsv",
    "qrels.dev.small.tsv",
]
TARGETS = ["table", "variants", "likeness", "indexes"]
make, printed = partial(makefiles.make, "spar"), partial(makefiles.printed, "spar")


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    for name in (*NQ, *MSMARCO):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("where", ["NQ", "MSMARCO", "DATA"])
def test_every_command_is_one_that_the_tools_take(published, beir, where):
    commands = printed(*TARGETS, f"{where}={beir if where == 'DATA' else published}", folder=beir)
    values = [(words[0], parsed(words)) for words in commands]
    assert all(
        tool in ("eval", "analyze") or "--renew" in words for (tool, _), words in zip(values, commands, strict=True)
    )
    made = [value["output"] for tool, value in values if tool != "eval"]
    assert len(set(made)) == len(made)
    trained = {Path(value["output"]).name for tool, value in values if tool.startswith("train-")}
    assert trained == {"lambda-transformer", "other", "from-lambda", "joint"} | ({"base"} if where != "DATA" else set())


def test_lambda_has_the_papers_settings(published):
    values = {words[0]: parsed(words) for words in printed(f"NQ={published}", folder=published)}
    expected = {
        "learning_rate": 3e-5,
        "batch_queries": 2048,
        "weight_decay": 0,
        "clip": 2,
        "max_query_tokens": 256,
        "max_document_tokens": 256,
        "tied": False,
        "hard_negatives": 1,
        "mask_positives": False,
    }
    assert {name: values["train-lexical"][name] for name in expected} == expected
    assert values["sample-queries"]["article_key"] == "title"
    assert values["mine-negatives"]["by_rank"] == "10:46-50"
    assert values["concat-spar"]["measure"] == "Success@100"


def test_runs_made_elsewhere_are_taken(published, beir):
    words = [f"DATA={beir}", "TEACHER_RUN=their.run", "BM25_RUN.test=a.run", "BM25_RUN.tune=b.run"]
    for name in ("their.run", "a.run", "b.run"):
        (beir / name).touch()
    commands = printed("table", "likeness", *words, folder=beir)
    mined = parsed(next(command for command in commands if command[0] == "mine-negatives"))
    assert (mined["run"], mined["index"]) == ("their.run", None)
    assert {parsed(command)["against"] for command in commands if command[0] == "analyze"} == {"a.run"}
    assert all(parsed(command)["tune_runs"][1] == "b.run" for command in commands if command[0] == "fuse")


def test_other_kinds_of_lambda_are_made_without_training(beir):
    commands = printed("table", f"DATA={beir}", "LAMBDAS=static-768 projection-1536", folder=beir)
    values = [(words[0], parsed(words)) for words in commands]
    made = {value["dimension"]: value for tool, value in values if tool == "make-lexical"}
    assert {dimension: value["encoder"] for dimension, value in made.items()} == {768: "static", 1536: "projection"}
    assert made[768]["queries"] and made[768]["only"].endswith("train.tsv") and made[1536]["queries"] is None
    assert not {"train-lexical", "sample-queries"} & {tool for tool, _ in values}
    assert any(value["output"].endswith("spar-projection-1536+bm25.run") for tool, value in values if tool == "fuse")


@pytest.mark.parametrize("where", ["NQ", "MSMARCO"])
def test_static_rows_are_fitted_to_sentences_that_are_made_before(published, where):
    commands = printed("table", f"{where}={published}", "LAMBDAS=static-768", folder=published)
    values = [(words[0], parsed(words)) for words in commands]
    made = [value["output"] for _, value in values if "output" in value]
    (lexical,) = [value for tool, value in values if tool == "make-lexical"]
    assert lexical["queries"] in made and made.index(lexical["queries"]) < made.index(lexical["output"])


def test_what_cannot_be_meant_is_said(tmp_path):
    assert "say NQ=folder or MSMARCO=folder" in make(folder=tmp_path).stderr


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools):
    """The commands are those that make prints, in its order, drtools' in this process.

    Then make itself finds nothing left to do.
    """
    words = [
        *TARGETS,
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"BASE={encoder_folder}",
        f"START={encoder_folder}",
        f"LEXICAL=--model {encoder_folder} --head none",
        "SAMPLE=--count 50",
        "BY_RANK=4:19-20",
        "DEV_EVERY=10",
        "FACTORY=Flat",
        "LEXICAL_FLAGS=--batch-queries 8 --steps 2 --max-query-tokens 60 --max-document-tokens 60",
        "BASE_FLAGS=--batch-queries 4 --steps 2",
        "ENCODE_FLAGS=--max-document-tokens 60",
        f"PYTHON={sys.executable}",
    ]
    lines = make("-n", *words, folder=beir).stdout.splitlines()
    for line in lines:
        if line.startswith("drtools "):
            makefiles.run_all([shlex.split(line)[1:]], drtools)
        elif line.startswith("awk "):
            subprocess.run(line, shell=True, check=True)
    again = make(*words, folder=beir)
    assert again.returncode == 0, again.stderr
    assert "drtools " not in again.stdout
    for name in (
        "base",
        "lambda-transformer",
        "spar-transformer",
        "sum-transformer",
        "base+bm25",
        "spar-transformer+bm25",
        "two",
        "from-lambda-spar",
        "joint-spar",
    ):
        assert f"test/{name}.run" in again.stdout
    assert "RBO" in again.stdout
    joined = json.loads((beir / "out/spar-transformer-vectors/manifest.json").read_text())["joined"]
    assert joined["how"] == "concat" and len(joined["parts"]) == 2


def test_questions_get_their_lines_numbers(tmp_path):
    source = tmp_path / "qa.csv"
    source.write_text("who sang\u2028it\t['Ann']\nwhere\t[\"there\"]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, FOLDER / "questions.py", source], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert [json.loads(line) for line in done.stdout.strip("\n").split("\n")] == [
        {"_id": "0", "text": "who sang\u2028it"},
        {"_id": "1", "text": "where"},
    ]
    source.write_text("who sang it\n")
    done = subprocess.run([sys.executable, FOLDER / "questions.py", source], capture_output=True, text=True)
    assert done.returncode == 1 and "qa.csv:1: 1 columns" in done.stderr
