"""Margins by a loop over pairs, the gamma curve out of manifests, and the pictures of both."""

import json

import numpy as np
import pytest

from drtools.evaluation.margins import margin, score_range


def test_margin_by_a_loop_over_pairs():
    hits = {"a": 9.0, "b": 7.5, "c": 4.0, "d": 1.0}
    pairs = [hits[p] - hits[n] for p in ("b", "c") for n in ("a", "d")]
    assert margin(hits, {"b", "c", "z"}, 4) == pytest.approx(np.mean(pairs))
    assert margin(hits, {"b"}, 2) == -1.5
    assert margin(hits, {"z"}, 4) is None and margin(hits, {"a"}, 1) is None and margin({}, {"a"}, 4) is None
    assert score_range({"q": hits, "r": {"x": 3.0, "y": -5.0}}, 1) == 6.0


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
    assert outcome.status == 2 and "by judgements" in outcome.err


def test_equal_scores_are_said_to_be_equal(drtools, tmp_path):
    (tmp_path / "qrels").write_text("q1 0 d1 1\n")
    (tmp_path / "equal.run").write_text("q1 Q0 d1 1 7 x\nq1 Q0 d2 2 7 x\n")
    outcome = drtools(
        "analyze", tmp_path / "equal.run", "--qrels", tmp_path / "qrels", "--margins", "-o", tmp_path / "out"
    )
    assert outcome.status == 2 and "all scores in its top" in outcome.err and "belong together" not in outcome.err, (
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
    assert outcome.status == 2 and "no weights that were tried" in outcome.err
