"""The teacher's Makefile: its commands are those that the tools take, and its chain runs on a toy collection."""

import makefiles
import pytest


@pytest.mark.slow
def test_the_chain_on_a_collection_of_ones_own(beir, encoder_folder, drtools, monkeypatch):
    monkeypatch.chdir(beir)
    words = [
        f"DATA={beir}",
        f"MODEL={encoder_folder}",
        f"ENCODER={encoder_folder}",
        "BUDGET=--steps 2",
        "QUERY_TOKENS=16",
        "DOCUMENT_TOKENS=32",
        "OUT=out",
    ]
    commands = makefiles.printed("teacher", "table", "scored", *words, folder=beir)
    values = {words[0]: makefiles.parsed(words) for words in commands}
    assert (
        values["train-ranker"]["dev_run"] == "out/bm25-dev.run"
        and values["train-ranker"]["steps"] == 2
        and values["train-ranker"]["negatives"] == 7
    )
    assert all(words[0] == "eval" or "--renew" in words for words in commands)
    makefiles.run_all(commands, drtools)
    table = (beir / "out/test.txt").read_text()
    assert (
        all(name in table for name in ("bm25-test", "encoder", "encoder-ranked", "ranked"))
        and (beir / "out/scored.jsonl").read_text().count("scored_by") == 12
    )


def test_without_a_collection_it_says_what_it_needs(tmp_path):
    done = makefiles.make("teacher", folder=tmp_path)
    assert done.returncode and "use DATA=" in done.stderr


def test_without_dev_judgements_nothing_is_measured_while_training(beir):
    (beir / "qrels/dev.tsv").unlink()
    commands = makefiles.printed("teacher", f"DATA={beir}", folder=beir)
    (training,) = [words for words in commands if words[0] == "train-ranker"]
    assert "--dev-run" not in training
