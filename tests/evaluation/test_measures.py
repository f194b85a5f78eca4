import math
import random
from statistics import fmean

import pytest
import pytrec_eval

from drtools.errors import InputError
from drtools.evaluation.measures import evaluate, parse_measure
from drtools.formats.trec import rank

# name here -> name in trec_eval
THEIRS = {
    "nDCG": "ndcg",
    "nDCG@1": "ndcg_cut_1",
    "nDCG@10": "ndcg_cut_10",
    "RR": "recip_rank",
    "AP": "map",
    "AP@5": "map_cut_5",
    "R@3": "recall_3",
    "R@100": "recall_100",
    "P@5": "P_5",
    "P@50": "P_50",
    "Success@1": "success_1",
    "Success@10": "success_10",
}
WORKED = [
    "nDCG@3",
    "nDCG",
    "RR",
    "RR@1",
    "MRR@3",
    "AP",
    "AP@2",
    "R@2",
    "P@5",
    "Success@1",
    "Success@2",
    "Judged@2",
    "Judged@10",
]


def values(qrels, run, names, min_rel=1):
    return evaluate(qrels, run, [parse_measure(name) for name in names], min_rel)


def test_an_example_worked_by_hand():
    # ranked: d4 (not judged), d1 (grade 2), d3 (grade 0), d5 (not judged), d2 (grade 1); d6 (grade 1) is not retrieved
    qrels = {"q": {"d1": 2, "d2": 1, "d3": 0, "d6": 1}}
    run = {"q": {"d4": 9.0, "d1": 8.0, "d3": 7.0, "d5": 6.0, "d2": 5.0}}
    best = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)  # 2 + .6309 + .5 = 3.1309
    expected = {
        "nDCG@3": 2 / math.log2(3) / best,  # 1.2619 / 3.1309 = .4030
        "nDCG": (2 / math.log2(3) + 1 / math.log2(6)) / best,
        "RR": 1 / 2,
        "RR@1": 0.0,
        "MRR@3": 1 / 2,
        "AP": (1 / 2 + 2 / 5) / 3,
        "AP@2": (1 / 2) / 3,
        "R@2": 1 / 3,
        "P@5": 2 / 5,
        "Success@1": 0.0,
        "Success@2": 1.0,
        "Judged@2": 1 / 2,  # d1
        "Judged@10": 3 / 5,  # d1, d3, d2 of the five retrieved
    }
    assert values(qrels, run, WORKED) == {name: {"q": pytest.approx(value)} for name, value in expected.items()}
    assert expected["nDCG@3"] == pytest.approx(0.4030, abs=5e-5)
    strict = values(qrels, run, WORKED, min_rel=2)  # d1 alone is relevant
    assert strict["AP"]["q"] == 1 / 2 and strict["R@2"]["q"] == 1.0 and strict["P@5"]["q"] == 1 / 5
    assert strict["nDCG@3"]["q"] == pytest.approx(expected["nDCG@3"])


def made(seed):
    """Qrels with grades from -2 to 3 and ties in scores.

    Queries that are missing, not judged, or without anything relevant.
    """
    rng = random.Random(seed)
    documents = [f"d{i}" for i in range(40)]
    judged = {f"q{i}": rng.sample(documents, rng.randrange(1, 25)) for i in range(30)}
    qrels = {query: {d: rng.choice([-2, -1, 0, 0, 1, 1, 2, 3]) for d in chosen} for query, chosen in judged.items()}
    for grades in qrels.values():
        grades["judged"] = 0  # trec_eval reads memory that is not its own where all grades of a query are negative
    qrels["nothing relevant"] = {"d1": 0, "d2": -1}
    run = {
        query: rank({d: rng.choice([rng.random(), 0.5]) for d in rng.sample(documents, rng.randrange(0, 40))})
        for query in [*qrels, "unjudged"]
        if query != "q3"
    }
    return qrels, run


def theirs(qrels, run, measures, min_rel):
    """Evaluate by trec_eval, a query that it leaves out counting 0, as with its option -c."""
    found = pytrec_eval.RelevanceEvaluator(qrels, measures, relevance_level=min_rel).evaluate(run)
    return {query: found.get(query, {}) for query in qrels}


@pytest.mark.parametrize("min_rel", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_trec_eval_for_every_query_and_in_the_mean(seed, min_rel):
    qrels, run = made(seed)
    ours = values(qrels, run, THEIRS, min_rel)
    other = theirs(qrels, run, set(THEIRS.values()), min_rel)
    for name, their_name in THEIRS.items():
        expected = {query: other[query].get(their_name, 0.0) for query in qrels}
        assert ours[name] == pytest.approx(expected, abs=1e-12)
        assert list(ours[name]) == list(qrels)
        assert f"{fmean(ours[name].values()):.4f}" == f"{fmean(expected.values()):.4f}"


def test_cut_reciprocal_rank_is_that_of_trec_eval_on_the_cut_run():
    qrels, run = made(9)
    for k in (1, 3, 10):
        cut = {query: dict(list(hits.items())[:k]) for query, hits in run.items()}
        expected = {
            query: found.get("recip_rank", 0.0) for query, found in theirs(qrels, cut, {"recip_rank"}, 1).items()
        }
        assert values(qrels, run, [f"RR@{k}"])[f"RR@{k}"] == pytest.approx(expected)


def test_judged_against_a_plain_count():
    qrels, run = made(11)
    for k in (1, 7, 100):
        first = {query: list(run.get(query, {}))[:k] for query in qrels}
        expected = {
            query: sum(d in qrels[query] for d in docs) / len(docs) if docs else 0.0 for query, docs in first.items()
        }
        assert values(qrels, run, [f"Judged@{k}"])[f"Judged@{k}"] == pytest.approx(expected)


def test_the_order_of_the_run_counts_and_not_its_scores():
    by_rank = {"q": {"b": 0.5, "a": 1.0}}  # as read with rank_order=True
    assert values({"q": {"a": 1}}, by_rank, ["RR@10"]) == {"RR@10": {"q": 0.5}}


def test_the_mean_is_over_all_judged_queries():
    qrels = {"found": {"a": 1}, "missing": {"a": 1}, "nothing relevant": {"a": 0}}
    run = {"found": {"a": 1.0}, "nothing relevant": {"a": 1.0}, "not judged": {"a": 1.0}}
    for name in ("nDCG@10", "RR@10", "AP", "R@1", "P@1", "Success@1"):
        assert values(qrels, run, [name]) == {name: {"found": 1.0, "missing": 0.0, "nothing relevant": 0.0}}
    assert values(qrels, {}, ["AP"]) == {"AP": dict.fromkeys(qrels, 0.0)}


def test_negative_grades_alone_are_as_good_as_none():
    run = {"q": {"a": 2.0, "b": 1.0}}
    names = ["nDCG", "nDCG@10", "RR", "AP", "R@5", "P@5", "Success@5"]
    assert values({"q": {"a": -2, "b": -1}}, run, names) == {name: {"q": 0.0} for name in names}
    assert values({"q": {"a": -2}}, run, ["Judged@2"]) == {"Judged@2": {"q": 0.5}}


def test_names_are_read_in_any_case_and_kept_as_written():
    qrels, run = made(2)
    found = values(qrels, run, ["ndcg@10", "NDCG@10", "mrr@5", "RR@5"])
    assert list(found) == ["ndcg@10", "NDCG@10", "mrr@5", "RR@5"]
    assert found["ndcg@10"] == found["NDCG@10"] and found["mrr@5"] == found["RR@5"]


@pytest.mark.parametrize(
    "text", ["", "nDCG@", "nDCG@0", "nDCG@-1", "nDCG@ten", "R", "P", "Success", "Judged", "P@5@5", "AP@5 "]
)
def test_unknown_measures_are_refused_with_the_known_ones(text):
    with pytest.raises(InputError, match=r"not known; use nDCG, RR .*Judged@k") as refusal:
        parse_measure(text)
    assert "\n" not in str(refusal.value)


def test_a_lowest_relevant_grade_below_one_is_refused():
    with pytest.raises(InputError, match="expected 1 or more"):
        values({"q": {"a": 1}}, {}, ["AP"], min_rel=0)


def test_a_measure_may_have_a_lowest_grade_of_its_own():
    """TREC DL's passages: R@100 of grade 2 is the official one, that of grade 1 stands in the papers' tables."""
    qrels, run = made(4)
    names = ["RR@10", "R(rel=2)@20", "R@20", "P(rel=3)@5", "ap(REL=2)", "nDCG@10"]
    for min_rel in (1, 2):
        together = values(qrels, run, names, min_rel)
        assert list(together) == names
        assert together["R(rel=2)@20"] == values(qrels, run, ["R@20"], 2)["R@20"]
        assert together["P(rel=3)@5"] == values(qrels, run, ["P@5"], 3)["P@5"]
        assert together["ap(REL=2)"] == values(qrels, run, ["AP"], 2)["AP"]
        for name in ("RR@10", "R@20", "nDCG@10"):
            assert together[name] == values(qrels, run, [name], min_rel)[name]
    assert together["R(rel=2)@20"] == together["R@20"] != values(qrels, run, ["R@20"])["R@20"]


@pytest.mark.parametrize("text", ["nDCG(rel=2)@10", "Judged(rel=1)@10"])
def test_a_lowest_grade_that_changes_nothing_is_refused(text):
    with pytest.raises(InputError, match="does not apply to"):
        parse_measure(text)
    with pytest.raises(InputError, match="not known"):
        parse_measure("R(rel=0)@10")
