"""STAR's Makefile: every command that it would run on MS MARCO is one that the tools take.

Its chain runs on a toy collection.
"""

import gzip
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import makefiles
import pytest
from makefiles import parsed

from drtools.formats.corpora import read_corpus

FOLDER = makefiles.EXAMPLES / "star"
RECIPES = {"warmup", "in-batch", "random", "own", "alpha", "ance", "star"}
make, printed = partial(makefiles.make, "star"), partial(makefiles.printed, "star")


@pytest.fixture
def published(tmp_path):
    return makefiles.published_in(tmp_path / "msmarco")


@pytest.mark.parametrize("collection", ["passages", "documents", "own"])
@pytest.mark.parametrize("target", ["table", "baselines"])
def test_every_command_is_one_that_the_tools_take(published, beir, collection, target):
    where = [f"DATA={beir}"] if collection == "own" else [f"MSMARCO={published}", f"COLLECTION={collection}"]
    commands = printed(target, *where, folder=beir)
    assert all(words[0] == "eval" or "--renew" in words for words in commands)
    trained = [parsed(words)["output"] for words in commands if words[0].startswith("train-")]
    outputs = {Path(output).name for output in trained}
    assert len(outputs) == len(trained)
    assert outputs == (RECIPES if target == "baselines" else {"warmup", "star"})
    made = {parsed(words)["output"] for words in commands if words[0] != "eval"}
    assert len(made) == len([words for words in commands if words[0] != "eval"])


@pytest.mark.parametrize(
    ("collection", "optimizer", "rate", "batch", "document_tokens"),
    [("passages", "lamb", 1e-4, 256, 120), ("documents", "adamw", 2e-6, 60, 512)],
)
def test_star_has_the_papers_settings(published, collection, optimizer, rate, batch, document_tokens):
    commands = printed(f"MSMARCO={published}", f"COLLECTION={collection}", folder=published)
    values = parsed(next(words for words in commands if words[0] == "train-star"))
    expected = {
        "optimizer": optimizer,
        "learning_rate": rate,
        "batch_queries": batch,
        "max_document_tokens": document_tokens,
        "max_query_tokens": 24,
        "weight_decay": 0.01,
        "clip": 1,
        "warmup_steps": 1000,
        "hard_negatives": 1,
        "negatives": "static",
    }
    assert {name: values[name] for name in expected} == expected
    assert values["model"] == "star/passages/warmup"
    mined = parsed(next(words for words in commands if words[0] == "mine-negatives" and "--vectors" in words))
    assert (mined["ranks"], mined["negatives"], mined["max_query_tokens"]) == ("1-200", 200, 32)


def test_in_batch_and_random_are_trained_on_passages_and_evaluated_on_documents(published):
    commands = printed("baselines", f"MSMARCO={published}", "COLLECTION=documents", folder=published)
    values = [(words[0], parsed(words)) for words in commands if words[0] != "eval"]
    for name in ("in-batch", "random"):
        (trained,) = [value for tool, value in values if tool == "train-star" and value["output"].endswith(f"/{name}")]
        assert trained["output"] == f"star/passages/{name}" and trained["negatives"] == name
        assert trained["corpus"] == [f"{published}/collection.tsv"] and trained["max_document_tokens"] == 120
        assert (trained["optimizer"], trained["learning_rate"], trained["batch_queries"]) == ("lamb", 2e-4, 256)
        (encoded,) = [value for tool, value in values if tool == "encode" and value["model"] == trained["output"]]
        assert encoded["output"] == f"star/documents/{name}-vectors" and encoded["max_document_tokens"] == 512
        assert encoded["documents"] == "star/documents/corpus.jsonl.gz"


@pytest.mark.parametrize(("collection", "tuned"), [("passages", (0.82, 0.68)), ("documents", (4.46, 0.82))])
def test_the_tables_measure_as_the_papers_and_nist_do(published, collection, tuned):
    commands = printed("table", f"MSMARCO={published}", f"COLLECTION={collection}", folder=published)
    values = [(words[0], parsed(words)) for words in commands]
    dev, dl19 = (value for tool, value in values if tool == "eval")
    assert dev["rank_order"] and dev["alpha"] == 0.01 and dl19["alpha"] == 0.05 and not dl19["rank_order"]
    if collection == "passages":
        assert dl19["min_rel"] == 2 and dl19["measures"].split(",") == ["nDCG@10", "RR@10", "R@100", "R(rel=1)@100"]
    else:
        assert dl19["min_rel"] == 1 and dl19["measures"].split(",") == ["nDCG@10", "RR@10", "R@100"]
    bm25 = {
        Path(value["output"]).parent.name: (value["k1"], value["b"])
        for tool, value in values
        if tool == "search" and value["output"].endswith("/bm25.run")
    }
    assert bm25 == {"dev": tuned, "dl19": (0.9, 0.4)}


def test_a_model_can_stand_in_for_the_warmup(beir):
    commands = printed(f"DATA={beir}", "WARMUP=some/encoder", "RECIPES=star", folder=beir)
    trained = [parsed(words) for words in commands if words[0].startswith("train-")]
    assert [values["model"] for values in trained] == ["some/encoder"]


def test_what_cannot_be_meant_is_said(tmp_path):
    assert "use MSMARCO=" in make(folder=tmp_path).stderr
    assert "expected passages or documents" in make("MSMARCO=.", "COLLECTION=pictures", folder=tmp_path).stderr


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools):
    """The commands are those that make prints, in its order, in this process.

    Then make itself finds nothing left to do.
    """
    words = [
        "baselines",
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"MODEL={encoder_folder}",
        "STEPS=2",
        "BATCH=4",
        "DOCUMENT_TOKENS=48",
        "ENCODE_DOCUMENT_TOKENS=60",
        "ANCE=--negatives own --refresh-every-steps 1",
    ]
    makefiles.run_all(printed(*words, folder=beir), drtools)
    again = make(*words, folder=beir)
    assert again.returncode == 0, again.stderr
    assert "drtools " not in again.stdout
    for recipe in RECIPES | {"bm25", "zero-shot"}:
        assert f"test/{recipe}.run" in again.stdout
    assert json.loads((beir / "out" / "ance" / "manifest.json").read_text())["steps"] == 2


def test_documents_are_url_title_and_body_cut_after_10000_characters(tmp_path):
    source, corpus = tmp_path / "msmarco-docs.tsv.gz", tmp_path / "corpus.jsonl"
    body = "wörd " * 3000
    with gzip.open(source, "wt", encoding="utf-8") as stream:
        stream.write(
            f"D1\thttp://a.b/c \tA title\t{body}\nD2\thttp://d\t\t\nD3\thttp://e\tTwo\u2028lines\tand\ra body\n"
        )
    with open(corpus, "wb") as stream:
        subprocess.run([sys.executable, FOLDER / "documents.py", source], stdout=stream, check=True)
    documents = [document for _, document in read_corpus(corpus)]
    whole = f"http://a.b/c<sep>A title<sep>{body}"
    assert [(document.id, document.title) for document in documents] == [("D1", ""), ("D2", ""), ("D3", "")]
    assert documents[0].text == whole[:10_000] and len(whole) > 10_000
    assert [document.text for document in documents[1:]] == [
        "http://d<sep><sep>",
        "http://e<sep>Two\u2028lines<sep>and\ra body",
    ]


def test_a_line_that_is_no_document_is_named(tmp_path):
    (tmp_path / "docs.tsv").write_text("D1\turl\ttitle\tbody\nD2 url\n")
    done = subprocess.run(
        [sys.executable, FOLDER / "documents.py", tmp_path / "docs.tsv"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "docs.tsv:2: 1 columns, expected `id url title body`" in done.stderr
