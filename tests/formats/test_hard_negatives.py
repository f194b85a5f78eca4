"""MS MARCO's public hard negatives: their union by rank, a pickle's scores beside them, and no code of it is run."""

import gzip
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from drtools.errors import InputError
from drtools.formats.hard_negatives import read_scores

RECORDS = [
    {"qid": 7, "pos": [1, 2], "neg": {"bm25": [5, 6, 1], "tas-b": [6, 9], "v3": []}},
    {"qid": 8, "pos": [3], "neg": {"tas-b": [4]}},
    {"qid": 9, "pos": [], "neg": {"bm25": [4]}},
]
SCORES = {7: {1: 9.5, 2: -1.25, 5: 0.5, 6: np.float32(2.75), 9: -11}, 8: {3: 4.0}}


@pytest.fixture
def public(tmp_path):
    with gzip.open(tmp_path / "negatives.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in RECORDS)
    with gzip.open(tmp_path / "ce-scores.pkl.gz", "wb") as stream:
        pickle.dump(SCORES, stream)
    return tmp_path


def examples(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]


def test_every_systems_negatives_with_a_teachers_scores(public, drtools):
    words = ["convert", "--from", "msmarco-hard-negatives", public / "negatives.jsonl.gz"]
    outcome = drtools(*words, "--scores", public / "ce-scores.pkl.gz", "-o", public / "scored")
    assert outcome.status == 0, outcome.err
    first, second, third = examples(public / "scored")
    assert first["query_id"] == "7" and first["positives"] == ["1", "2"]
    assert first["negatives"] == ["5", "6", "9"], "by rank over the systems, each once, the relevant left out"
    assert first["positive_scores"] == [9.5, -1.25] and first["negative_scores"] == [0.5, 2.75, -11]
    assert first["scored_by"].startswith("ce-scores@") and first["scored_by"] == second["scored_by"]
    assert (second["positive_scores"], second["negative_scores"]) == ([4.0], [None])
    assert third["positives"] == [] and third["negative_scores"] == [None]
    assert "2 documents have no score" in outcome.err and "1 query has no positive" in outcome.err
    assert drtools(*words, "-o", public / "plain").status == 0
    assert all(
        "scored_by" not in example and "negative_scores" not in example for example in examples(public / "plain")
    )
    assert [example["negatives"] for example in examples(public / "plain")] == [["5", "6", "9"], ["4"], ["4"]]


def test_they_are_trained_on_by_their_margins(toy, encoder_folder, drtools):
    folder = toy.folder
    made = [json.loads(line) for line in Path(toy.examples).read_text().splitlines()]
    records = [{"qid": each["query_id"], "pos": each["positives"], "neg": {"x": each["negatives"]}} for each in made]
    (folder / "negatives.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    scores = {each["query_id"]: dict.fromkeys((*each["positives"], *each["negatives"]), 1.0) for each in made}
    (folder / "scores.pkl").write_bytes(pickle.dumps(scores, protocol=2))
    public = [folder / "negatives.jsonl", "--scores", folder / "scores.pkl"]
    assert drtools("convert", "--from", "msmarco-hard-negatives", *public, "-o", folder / "public").status == 0
    words = ["--model", encoder_folder, "--corpus", toy.corpus, "--queries", toy.queries, "--steps", "1"]
    words += ["--examples", folder / "public/examples.jsonl", "--loss", "margin-mse", "--batch-queries", "4"]
    outcome = drtools("train-contrastive", *words, "-o", folder / "model")
    assert outcome.status == 0 and "no score" not in outcome.err, outcome.err


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_nothing_that_a_pickle_names_is_run(tmp_path, protocol):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({7: {1: Evil(str(tmp_path / "made"))}}, protocol))
    with pytest.raises(InputError, match=r"evil.pkl: not a pickle of scores .*mkdir, which is not a plain value"):
        read_scores(tmp_path / "evil.pkl")
    assert not (tmp_path / "made").exists()


def test_numpys_numbers_are_read_in_every_protocol(tmp_path):
    for protocol in range(6):
        (tmp_path / "scores.pkl").write_bytes(pickle.dumps(SCORES, protocol))
        scores = read_scores(tmp_path / "scores.pkl")
        for query, held in SCORES.items():
            assert scores.of(str(query)) == {str(document): score for document, score in held.items()}


def test_what_is_not_of_this_form_is_refused_in_one_line(public, drtools):
    words = ["convert", "--from", "msmarco-hard-negatives", "-o", public / "out"]
    whole = (public / "ce-scores.pkl.gz").read_bytes()
    bad = {
        "short.pkl.gz": (whole[:40], "is the file whole"),
        "text.pkl": (b"no pickle", "text.pkl"),
        "list.pkl": (pickle.dumps([1, 2]), "found a list of 2"),
        "flat.pkl": (pickle.dumps({1: 2.0}), "found a dict of 1"),
        "empty.pkl": (b"", "is the file whole"),
    }
    for name, (content, said) in bad.items():
        (public / name).write_bytes(content)
        outcome = drtools(*words, public / "negatives.jsonl.gz", "--scores", public / name)
        assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
    for line in ('{"qid": 1, "pos": [2]}', '{"qid": 1, "pos": [2], "neg": {"a": 3}}', '{"pos": [2], "neg": {}}', "[]"):
        (public / "odd.jsonl").write_text(f"{json.dumps(RECORDS[0])}\n{line}\n")
        outcome = drtools(*words, public / "odd.jsonl")
        assert outcome.status == 2 and "odd.jsonl:2" in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
    outcome = drtools(
        "convert", "--from", "dpr", public / "odd.jsonl", "--scores", public / "ce-scores.pkl.gz", "-o", public / "out"
    )
    assert outcome.status == 2 and "--scores is only for --from msmarco-hard-negatives" in outcome.err
