"""GPL's Makefile: its commands are those that the tools take, and its chain runs with toy models."""

import makefiles
import pytest
from models.toy_generators import make_t5


@pytest.mark.slow
def test_the_chain_from_a_corpus_to_an_encoder_that_is_measured(beir, bert, encoder_folder, drtools, monkeypatch):
    monkeypatch.chdir(beir)
    corpus, queries = beir / "corpus.jsonl", beir / "queries.jsonl"
    ranker = ["train-ranker", "--model", bert, "--corpus", corpus, "--queries", queries]
    ranker += ["--examples", beir / "examples.jsonl", "--steps", 1, "--negatives", 2, "-o", "ranker"]
    assert drtools(*ranker).status == 0
    words = [
        f"DATA={beir}",
        f"MODEL={encoder_folder}",
        f"GENERATOR={make_t5(beir / 'generator')}",
        "TEACHER=ranker",
        "WRITE=--max-query-tokens 8",
        "SAMPLE=40",
        "DEPTH=60",
        "HITS=20",
        "NEGATIVES=3",
        "STEPS=2",
        "BATCH=4",
        "DOCUMENT_TOKENS=32",
        "OUT=out",
    ]
    commands = makefiles.printed("gpl", "table", *words, folder=beir)
    values = {words[0]: makefiles.parsed(words) for words in commands}
    assert values["train-contrastive"]["loss"] == "margin-mse" and values["generate-queries"]["sample"] == 40
    done = makefiles.make("gpl", "-n", *words, folder=beir)
    assert done.returncode == 0, done.stderr
    makefiles.run_all(commands, drtools)
    table = (beir / "out/test.txt").read_text()
    assert all(name in table for name in ("bm25.run", "start.run", "gpl.run"))
    assert (beir / "out/scored.jsonl").read_text().count("scored_by") >= 1


def test_a_collection_without_judgements_ends_with_the_encoder(toy):
    commands = makefiles.printed("gpl", f"DATA={toy.folder}", folder=toy.folder)
    assert commands[-1][0] == "train-contrastive" and not any(words[0] == "eval" for words in commands)
    values = {words[0]: makefiles.parsed(words) for words in commands}
    assert values["generate-queries"]["model"] == "BeIR/query-gen-msmarco-t5-base-v1"


def test_without_a_collection_it_says_what_it_needs(tmp_path):
    done = makefiles.make("gpl", folder=tmp_path)
    assert done.returncode and "use DATA=" in done.stderr
