"""Dev evaluation: as deep as its measures ask, on a pool whose rest is drawn from the whole corpus."""

import re

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


@pytest.mark.slow
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


def final_dev_of(outcome, over):
    """Return the dev figure in the last lines of a training, which say over what it ranks."""
    assert outcome.status == 0, outcome.err
    (value,) = re.findall(rf"best dev nDCG@10 (\d\.\d{{4}}) at step \d+ \({re.escape(over)}\)", outcome.err)
    return value


def value_of_run(drtools, qrels, run):
    """Return what eval prints for a run."""
    line = drtools("eval", "--qrels", qrels, run, "--measures", "nDCG@10", "--per-query").out.splitlines()[-1]
    assert line.split("\t")[-3:-1] == ["nDCG@10", "all"], line
    return line.split("\t")[-1]


@pytest.mark.slow
def test_the_final_dev_figure_is_what_eval_prints(toy, encoder_folder, drtools, tmp_path):
    fp32, vectors = ["--precision", "fp32"], tmp_path / "vectors"
    steps = ["--steps", "12", "--batch-queries", "5", "--learning-rate", "1e-3", "--evaluate-every-steps", "6", *fp32]

    def encode(model, out):
        words = ["encode", "--model", model, "--corpus", toy.corpus, "--dtype", "float32", *fp32, "-o", out]
        assert drtools(*words).status == 0

    def measured(model, documents):
        words = ["search", "--model", model, "--vectors", documents, "--queries", toy.queries, *fp32]
        assert drtools(*words, "--overwrite", "-o", tmp_path / "a.run").status == 0
        return value_of_run(drtools, toy.qrels, tmp_path / "a.run")

    train = ["train-contrastive", "--model", encoder_folder, *toy.training, *steps, "--dev-qrels", toy.qrels]
    said = final_dev_of(drtools(*train, "-o", tmp_path / "dpr"), "over the whole corpus of 60 documents")
    encode(tmp_path / "dpr", vectors)
    encode(encoder_folder, tmp_path / "before")
    assert said == measured(tmp_path / "dpr", vectors)
    assert said != measured(encoder_folder, tmp_path / "before"), "a figure of this training"
    adore = ["train-adore", "--model", tmp_path / "dpr", "--vectors", vectors, "--queries", toy.queries]
    adore += ["--qrels", toy.qrels, *steps, "--depth", "20", "--dev-qrels", toy.qrels]
    said = final_dev_of(drtools(*adore, "-o", tmp_path / "adore"), "over the index of 60 documents")
    assert said == measured(tmp_path / "adore", vectors)


@pytest.mark.slow
def test_the_final_dev_figure_of_a_ranker_is_what_eval_prints_for_its_run(toy, bert, drtools, tmp_path):
    run, texts = tmp_path / "first.run", ["--corpus", toy.corpus, "--queries", toy.queries]
    documents = {query: [f"d{3 * query}", *(f"d{(7 * query + 5 * n) % 60}" for n in range(8))] for query in range(20)}
    lines = [
        (query, name, 9 - at) for query, names in documents.items() for at, name in enumerate(dict.fromkeys(names))
    ]
    run.write_text("".join(f"q{query} Q0 {name} 1 {score} x\n" for query, name, score in lines))
    train = [
        "train-ranker",
        "--model",
        bert,
        "--examples",
        toy.examples,
        *texts,
        "--steps",
        "6",
        "--batch-queries",
        "5",
    ]
    train += ["--precision", "fp32", "--dev-run", run, "--dev-qrels", toy.qrels, "-o", tmp_path / "ranker"]
    said = final_dev_of(drtools(*train), f"of {len(lines)} pairs that are ranked again")
    score = ["teacher-score", "--teacher", tmp_path / "ranker", "--run", run, *texts, "--precision", "fp32"]
    assert drtools(*score, "-o", tmp_path / "again.run").status == 0
    assert said == value_of_run(drtools, toy.qrels, tmp_path / "again.run")
