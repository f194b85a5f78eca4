"""Fusion without weights against a naive loop, and the comparison with the best input against scipy's test."""

import json
import math
import random
import re

import pytest
from scipy.stats import ttest_rel

from drtools.formats.trec import read_run


def write(path, run):
    lines = []
    for query, hits in run.items():
        ranked = sorted(hits.items(), key=lambda pair: -pair[1])
        lines += [f"{query} Q0 {document} {place} {score} x" for place, (document, score) in enumerate(ranked, start=1)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def world(tmp_path):
    """Two runs of 30 queries with scores of different sizes, and judgements; the relevant documents rank high."""
    draw = random.Random(5)
    runs, judged = [{}, {}], {}
    for number in range(30):
        query, names = f"q{number}", [f"d{place}" for place in range(25)]
        relevant = draw.sample(names, 3)
        judged[query] = relevant
        for run, scale in zip(runs, (1, 40), strict=True):
            kept = draw.sample(names, 18)
            run[query] = {name: scale * (draw.random() + 0.35 * (name in relevant)) + scale for name in kept}
    tmp_path.joinpath("qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t1\n" for q, documents in judged.items() for d in documents)
    )
    return tmp_path, [write(tmp_path / f"{name}.run", run) for name, run in zip("ab", runs, strict=True)], runs, judged


def min_max(hits):
    low, high = min(hits.values()), max(hits.values())
    return {document: (score - low) / (high - low) for document, score in hits.items()}


def reciprocal_rank(hits, relevant):
    for place, document in enumerate(sorted(hits, key=lambda name: -hits[name])[:10], start=1):
        if document in relevant:
            return 1 / place
    return 0.0


def test_linear_fusion_without_weights_scales_by_query_and_says_so(world, drtools):
    folder, paths, runs, _ = world
    outcome = drtools("fuse", *paths, "--method", "linear", "-o", folder / "fused.run")
    assert outcome.status == 0 and "min-max by query, since no weights are given" in outcome.err, outcome.err
    assert f"1 {paths[0]}, 1 {paths[1]}; " in outcome.err
    fused = read_run(folder / "fused.run")
    for query in runs[0]:
        scaled = [min_max(run[query]) for run in runs]
        expected = {d: sum(each.get(d, 0.0) for each in scaled) for each in scaled for d in each}
        assert fused[query] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("more", [["--weights", "1,1"], ["--normalization", "none"], ["--tune", "qrels.tsv"]])
def test_with_weights_scores_are_added_as_they_are(world, drtools, more, monkeypatch):
    folder, paths, runs, _ = world
    monkeypatch.chdir(folder)
    outcome = drtools("fuse", *paths, "--method", "linear", *more, "-o", "fused.run")
    assert outcome.status == 0 and "scores are added as they are" in outcome.err, outcome.err
    weight = json.loads((folder / "fused.run.manifest.json").read_text())["weights"][1]
    fused = read_run(folder / "fused.run")
    for query in runs[0]:
        first, second = runs[0][query], runs[1][query]
        expected = {
            d: first.get(d, min(first.values())) + weight * second.get(d, min(second.values())) for d in first | second
        }
        assert fused[query] == pytest.approx(expected, rel=1e-5)


def test_the_result_is_compared_with_its_best_input(world, drtools):
    folder, paths, runs, judged = world
    words = ["fuse", *paths, "--method", "linear", "--tune", folder / "qrels.tsv", "--tune-on", "RR@10"]
    outcome = drtools(*words, "-o", folder / "fused.run")
    assert outcome.status == 0, outcome.err
    fused = read_run(folder / "fused.run")
    values = [[reciprocal_rank(run[query], judged[query]) for query in judged] for run in (fused, *runs)]
    means = [math.fsum(each) / len(each) for each in values]
    best = max((1, 2), key=means.__getitem__)
    p = ttest_rel(values[0], values[best]).pvalue
    record = json.loads((folder / "fused.run.manifest.json").read_text())["dev"]
    assert record["best_input"] == str(paths[best - 1]) and record["p"] == pytest.approx(p)
    assert (record["value"], record["best_input_value"]) == pytest.approx((means[0], means[best]))
    line = re.search(r"RR@10 on 30 dev queries: (\S+) the fusion, (\S+) (\S+), the best input \(p (\S+)\)", outcome.err)
    assert line and line.groups() == (f"{means[0]:.4f}", f"{means[best]:.4f}", str(paths[best - 1]), f"{p:.4f}")


def test_a_fusion_that_is_worse_says_which_run_to_take(world, drtools):
    folder, _, runs, judged = world
    perfect = {query: {d: 10.0 - place for place, d in enumerate(judged[query])} for query in judged}
    best = write(folder / "perfect.run", perfect)
    noise = write(folder / "noise.run", {q: {d: 1.0 - s for d, s in hits.items()} for q, hits in runs[0].items()})
    for method in ("rrf", "linear"):
        words = ["fuse", noise, best, "--method", method, "--dev-qrels", folder / "qrels.tsv", "--tune-on", "nDCG@10"]
        outcome = drtools(*words, "-o", folder / f"{method}.run")
        assert outcome.status == 0 and f"the fusion is not better; take {best}" in outcome.err, outcome.err
        assert "tuned_for" not in json.loads((folder / f"{method}.run.manifest.json").read_text())
    both = drtools(*words, "--tune", folder / "qrels.tsv", "-o", folder / "x.run")
    assert both.status == 2 and "leave --dev-qrels out" in both.err
