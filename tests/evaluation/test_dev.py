"""Dev evaluation: as deep as its measures ask, on a pool whose rest is drawn from the whole corpus."""

import numpy as np
import pytest

from drtools import reporting
from drtools.cli import console
from drtools.errors import InputError
from drtools.evaluation.dev import _pool, depth_for
from drtools.evaluation.measures import parse_measure
from drtools.formats.corpus_store import open_store
from tests.conftest import write_jsonl


@pytest.fixture
def store(tmp_path):
    return open_store(write_jsonl(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": "fox"} for n in range(3000)]))


@pytest.mark.parametrize(
    ("measures", "depth"),
    [(["nDCG@10"], 100), (["nDCG@10", "R@1000"], 1000), (["AP"], 1000), (["RR@10", "R@150"], 150)],
)
def test_lists_are_as_deep_as_the_measures_look(measures, depth):
    assert depth_for([parse_measure(word) for word in measures]) == depth


def test_the_rest_of_the_pool_is_drawn_from_everywhere(store):
    judged = {f"q{n}": {f"d{n}": 1} for n in range(0, 3000, 4)}
    pool = _pool(store, judged, 1000, seed=1)
    rest = [int(name[1:]) for name in pool if int(name[1:]) % 4]
    assert (
        len(pool) == len(set(pool)) == 1000 and len(rest) == 250 and {f"d{n}" for n in range(0, 3000, 4)} <= set(pool)
    )
    assert np.histogram(rest, 6, (0, 3000))[0].min() > 20, "of all parts of the corpus"
    assert _pool(store, judged, 1000, seed=1) == pool != _pool(store, judged, 1000, seed=2)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_another_corpus_is_noticed_whatever_the_pool(store, size):
    console.configure("test")
    with pytest.raises(InputError, match="none of the documents in the dev qrels"):
        _pool(store, {"q": {"other": 1}}, size, seed=1)
    assert len(_pool(store, {"q": {"d1": 1, "other": 1}}, size, seed=1)) == (100 if size == 100 else 3000)
    assert any("1 document of the dev qrels is not in the corpus" in said for said in reporting.notices())


def test_recall_at_1000_is_not_that_at_100(toy, encoder_folder, drtools, tmp_path):
    import json

    documents = [
        *toy.documents,
        *({"_id": f"x{n}", "title": "", "text": f"{toy.documents[n % 60]['text']} {n}"} for n in range(400)),
    ]
    corpus = write_jsonl(tmp_path / "many.jsonl", documents)
    (tmp_path / "dev.tsv").write_text("".join(f"q{query}\tx{n}\t1\n" for query in range(5) for n in range(0, 400, 2)))
    outcome = drtools(
        "train-contrastive",
        "--model",
        encoder_folder,
        "--corpus",
        corpus,
        "--queries",
        toy.queries,
        "--examples",
        toy.examples,
        "--batch-queries",
        "5",
        "--steps",
        "1",
        "--dev-qrels",
        tmp_path / "dev.tsv",
        "--dev-measures",
        "R@1000, R@100",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "-o",
        tmp_path / "out",
    )
    assert outcome.status == 0, outcome.err
    first = json.loads((tmp_path / "out/manifest.json").read_text())["evaluations"][0]
    assert first["R@1000"] == 1.0 > first["R@100"]
