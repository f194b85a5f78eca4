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


def test_lambda_learns_vectors_and_then_ranks(beir):
    commands = printed(f"DATA={beir}", "LAMBDAS=regressed refined", folder=beir)
    made = {Path(value["output"]).name: value for value in map(parsed, commands) if value.get("output")}
    regressed = made["lambda-regressed"]
    assert Path(regressed["target_documents"]).name == "lambda-static-384-vectors"
    assert made["lambda-static-384"]["dimension"] == 384 and "lambda-static-384-sentences" in made
    refined = made["lambda-refined"]
    assert Path(refined["model"]).name == "lambda-regressed" and not refined["target_documents"]


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


@pytest.mark.parametrize("where", ["NQ", "MSMARCO", "DATA"])
def test_lambda_is_validated_on_the_questions_that_mu_is_tuned_on(published, beir, where):
    commands = printed("table", f"{where}={beir if where == 'DATA' else published}", folder=beir)
    values = [(words[0], parsed(words)) for words in commands]
    (trained,) = [value for tool, value in values if tool == "train-lexical"]
    (mined,) = [value for _, value in values if value.get("output") == trained["dev_examples"]]
    joined = next(value for tool, value in values if tool == "concat-spar")
    assert mined["queries"] == trained["dev_queries"] == joined["dev_queries"] != trained["queries"][0]
    assert (mined["by_rank"], mined["only"]) == ("10:46-50", joined["dev_qrels"])
    assert {"NQ": "nq-dev.jsonl", "MSMARCO": "queries.dev.tsv", "DATA": "queries.jsonl"}[where] in mined["queries"]
    sentences = next(value["output"] for tool, value in values if tool == "sample-queries")
    assert trained["queries"] == [sentences], "and trained on sentences, all of them"
    (labelled,) = [value for _, value in values if [value.get("output")] == trained["examples"]]
    assert labelled["queries"] == sentences


@pytest.mark.parametrize("where", ["NQ", "MSMARCO"])
def test_titles_stand_before_a_separator_for_lambda_and_dpr_alike(published, where):
    commands = printed("table", "variants", f"{where}={published}", folder=published)
    read = [
        (words, parsed(words)) for words in commands if words[0] in ("encode", "train-lexical", "train-contrastive")
    ]
    of_documents = [value for words, value in read if words[0] != "encode" or value["documents"]]
    assert len(of_documents) > 8
    assert {str(value["title_separator"]) for value in of_documents} == {" [SEP] ", "[' [SEP] ']"}


def test_hybrids_fuse_lists_of_1000_and_every_tuning_matches_answers_alike(published):
    for match in ("string", "regex"):
        more = [f"MATCH=--answer-match {match}"] if match == "regex" else []
        commands = printed("table", f"NQ={published}", *more, folder=published)
        values = [(words[0], parsed(words)) for words in commands]
        fused = [value for tool, value in values if tool == "fuse"]
        depths = {value["output"]: value["depth"] for tool, value in values if tool in ("search", "fuse")}
        assert fused and {depths[run] for value in fused for run in (*value["runs"], *value["tune_runs"])} == {1000}
        assert {value["depth"] for value in fused} == {1000} and fused[0]["tune_measure"] == "Success@100"
        matched = {
            value["answer_match"] or "string" for tool, value in values if tool in ("fuse", "concat-spar", "eval")
        }
        assert matched == {match}


def test_bm25_is_the_tuned_one_on_ms_marco_alone(published, beir):
    for where, expected in {"NQ": (0.9, 0.4), "MSMARCO": (0.82, 0.68), "DATA": (0.9, 0.4)}.items():
        commands = printed("table", f"{where}={beir if where == 'DATA' else published}", folder=beir)
        values = [parsed(words) for words in commands if words[0] in ("search", "mine-negatives")]
        lucene = [value for value in values if (value["index"] or "").endswith("/bm25")]
        assert len(lucene) > 3 and {(value["k1"], value["b"]) for value in lucene} == {expected}


def test_ms_marcos_ranks_are_those_of_the_run(published):
    commands = printed("table", f"MSMARCO={published}", folder=published)
    (table,) = [parsed(words) for words in commands if words[0] == "eval"]
    assert table["rank_order"] and table["measures"] == "RR@10,R@50,R@1000"


def test_runs_made_elsewhere_are_taken(published, beir):
    words = [f"DATA={beir}", "TEACHER_RUN=their.run", "BM25_RUN.test=a.run", "BM25_RUN.tune=b.run"]
    for name in ("their.run", "a.run", "b.run", "dev.run"):
        (beir / name).touch()
    assert "set TEACHER_DEV_RUN=FILE too" in make("table", *words, folder=beir).stderr
    words.append("TEACHER_DEV_RUN=dev.run")
    commands = printed("table", "likeness", *words, folder=beir)
    mined = [parsed(command) for command in commands if command[0] == "mine-negatives"]
    assert {(value["run"], value["index"]) for value in mined} == {("their.run", None), ("dev.run", None)}
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
    assert "use NQ=folder or MSMARCO=folder" in make(folder=tmp_path).stderr


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
