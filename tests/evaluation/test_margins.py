"""Margins by a loop over pairs, the gamma curve out of manifests, and the pictures of both."""

import json
from itertools import pairwise

import numpy as np
import pytest

from drtools.evaluation.analyses.margins import (
    MarginPairs,
    analyse_margins,
    fixed_pairs,
    margins_of_query,
    pairs_of_examples,
    pairs_of_runs,
    score_range,
)
from drtools.formats.examples import Example


def test_margins_by_a_loop_over_pairs():
    hits = {"a": 9.0, "b": 7.5, "c": 4.0, "d": 1.0}
    assert margins_of_query(hits, MarginPairs(["b", "c"], ["a", "d"])) == [7.5 - 9, 7.5 - 1, 4 - 9, 4 - 1]
    pairs = {"q": MarginPairs(["a"], ["c"]), "r": MarginPairs(["x"], [])}
    assert score_range({"q": hits, "r": {"x": 3.0, "y": -5.0}}, pairs) == 9.0 - 3.0, "of the pairs' documents alone"


def test_pairs_are_the_same_for_every_run():
    runs = {
        "one": {"q": {"p": 9.0, "n1": 8.0, "n2": 7.0, "p2": 6.0}, "r": {"p": 1.0}},
        "other": {"q": {"n2": 5.0, "n3": 4.0, "p": 3.0, "n1": 2.0}},
    }
    qrels = {"q": {"p": 2, "p2": 1, "n1": 0}, "r": {"p": 1}}
    assert pairs_of_runs(runs, qrels, 1, 4) == {"q": MarginPairs(["p"], ["n1", "n2"]), "r": MarginPairs([], [])}
    assert pairs_of_runs(runs, qrels, 1, 3)["q"] == MarginPairs(["p"], ["n2"])
    assert pairs_of_runs({"one": runs["one"]}, qrels, 2, 4)["q"] == MarginPairs(["p"], ["n1", "n2", "p2"])
    listed = pairs_of_examples([Example("q", ["p", "p2"], ["n1", "n2", "n3"])])
    assert fixed_pairs(listed, runs) == {"q": MarginPairs(["p"], ["n1", "n2"])}, "scored by both"


def test_the_histogram_and_the_means_equal_loops(tmp_path):
    draw = np.random.default_rng(3)
    queries = {f"q{n}": MarginPairs(["p"], [f"n{m}" for m in range(1 + n)]) for n in range(12)}
    scores = {
        label: {
            query: dict(zip(["p", *pair.negatives], draw.normal(size=1 + len(pair.negatives)), strict=True))
            for query, pair in queries.items()
        }
        for label in ("one", "other")
    }
    numbers = analyse_margins(scores, queries, "in pairs.jsonl", tmp_path).numbers
    for label, own in scores.items():
        every = [score for hits in own.values() for score in hits.values()]
        margins = {
            query: [(own[query]["p"] - own[query][n]) / (max(every) - min(every)) for n in pair.negatives]
            for query, pair in queries.items()
        }
        flat = [margin for found in margins.values() for margin in found]
        found = numbers[label]
        assert found["pairs"] == len(flat) == 78
        assert found["mean"] == pytest.approx(np.mean([np.mean(each) for each in margins.values()]))
        assert found["mean_over_pairs"] == pytest.approx(np.mean(flat))
        assert found["not_above"] == np.mean([margin <= 0 for margin in flat])
        edges = found["histogram"]["edges"]
        assert edges == pytest.approx(np.linspace(-1, 1, 41))
        expected = [sum(low <= margin < high for margin in flat) / 78 for low, high in pairwise(edges)]
        assert found["histogram"]["share_of_pairs"] == pytest.approx(expected) and sum(expected) == pytest.approx(1)
    assert (tmp_path / "margins.png").read_bytes().startswith(b"\x89PNG")


def write_run(path, scale):
    lines = {"q1": {"d1": 3, "d2": 2, "d3": 1}, "q2": {"d2": 5, "d1": 4, "d3": 2}, "q3": {"d9": 1}}
    path.write_text(
        "".join(
            f"{query} Q0 {document} 1 {scale * score} x\n"
            for query, hits in lines.items()
            for document, score in hits.items()
        )
    )
    return path


def test_margins_do_not_depend_on_the_scale_of_scores(drtools, tmp_path):
    (tmp_path / "qrels").write_text("q1 0 d1 1\nq2 0 d1 1\nq3 0 d1 1\n")
    runs = [write_run(tmp_path / "one.run", 1), write_run(tmp_path / "other.run", 7)]
    outcome = drtools("analyze", *runs, "--qrels", tmp_path / "qrels", "--margins", "-o", tmp_path / "out")
    assert outcome.status == 0 and "1 of 3 queries have no relevant document" in outcome.err, outcome.err
    found = json.loads((tmp_path / "out/analysis.json").read_text())["margins"]
    for run in ("one", "other"):
        assert found[run]["by_query"] == pytest.approx({"q1": 1.5 / 4, "q2": 0.5 / 4})
        assert found[run]["mean"] == pytest.approx(1 / 4)
    assert (tmp_path / "out/margins.png").read_bytes().startswith(b"\x89PNG")
    outcome = drtools("analyze", *runs, "--margins", "-o", tmp_path / "refused")
    assert outcome.status == 2 and "--margins needs pairs" in outcome.err


@pytest.mark.slow
def test_equal_scores_are_said_to_be_equal(drtools, tmp_path):
    (tmp_path / "qrels").write_text("q1 0 d1 1\n")
    (tmp_path / "equal.run").write_text("q1 Q0 d1 1 7 x\nq1 Q0 d2 2 7 x\n")
    outcome = drtools(
        "analyze", tmp_path / "equal.run", "--qrels", tmp_path / "qrels", "--margins", "-o", tmp_path / "out"
    )
    assert outcome.status == 2 and "all scores in the top" in outcome.err and "belong together" not in outcome.err, (
        outcome.err
    )
    (tmp_path / "other.run").write_text("q1 Q0 d3 1 7 x\nq1 Q0 d2 2 7 x\n")
    outcome = drtools(
        "analyze", tmp_path / "other.run", "--qrels", tmp_path / "qrels", "--margins", "-o", tmp_path / "out"
    )
    assert outcome.status == 2 and "belong together" in outcome.err, outcome.err


@pytest.mark.parametrize(("said", "measure"), [(["--tune-measure", "RR@10"], "RR@10"), ([], "nDCG@10")])
def test_the_curve_of_a_tuned_weight(drtools, toy, tmp_path, said, measure):
    (tmp_path / "qrels").write_text("q1 0 d1 1\nq2 0 d1 1\n")
    first, second = write_run(tmp_path / "a.run", 1), write_run(tmp_path / "b.run", 2)
    assert (
        drtools(
            "fuse",
            first,
            second,
            "--method",
            "linear",
            "--tune",
            tmp_path / "qrels",
            *said,
            "-o",
            tmp_path / "fused.run",
        ).status
        == 0
    )
    outcome = drtools("analyze", "--tuned", tmp_path / "fused.run", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "out/analysis.json").read_text())["tuning"]["fused"]
    made = json.loads((tmp_path / "fused.run.manifest.json").read_text())
    assert found["tried"] == sorted(made["tried"]) and found["best"] == made["weights"][1]
    assert measure in outcome.out and (tmp_path / "out/tuning.png").read_bytes().startswith(b"\x89PNG")
    assert drtools("fuse", first, second, "-o", tmp_path / "plain.run").status == 0
    outcome = drtools("analyze", "--tuned", tmp_path / "plain.run", "-o", tmp_path / "refused")
    assert outcome.status == 2 and "has no tried weights" in outcome.err
