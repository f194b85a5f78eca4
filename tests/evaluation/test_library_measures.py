"""Measures of ir_measures' grammar: values by their definitions, whatever the ids and the ties of a run are."""

import math
import random

import pytest
import pytrec_eval

from drtools.errors import InputError
from drtools.evaluation.dev import depth_for
from drtools.evaluation.measures import evaluate, parse_measure, parse_measures, split_measures
from drtools.formats.trec import rank


def made(seed, grades=(0, 0, 1, 2, 3)):
    """Judgements and a run with ties, queries that are no numbers, ids with spaces, and a query without hits."""
    draw = random.Random(seed)
    qrels = {f"query-{n} a": {f"doc {d}": draw.choice(grades) for d in draw.sample(range(40), 12)} for n in range(9)}
    run = {
        query: rank({f"doc {d}": float(draw.randrange(6)) for d in draw.sample(range(60), 30)})
        for query in [*list(qrels)[:-1], "not judged"]
    }
    return qrels, run


def err(grades, k):
    """Chapelle et al. 2009, equation 3, with the highest grade 4."""
    value, goes_on = 0.0, 1.0
    for place, grade in enumerate(grades[:k], start=1):
        satisfied = (2**grade - 1) / 2**4
        value += goes_on * satisfied / place
        goes_on *= 1 - satisfied
    return value


def rbp(grades, p, min_rel):
    """Moffat and Zobel 2008, equation 3."""
    return (1 - p) * sum(p**place for place, grade in enumerate(grades) if grade >= min_rel)


@pytest.mark.parametrize("seed", [0, 1])
def test_err_and_rbp_by_their_definitions(seed):
    qrels, run = made(seed)
    names = ["ERR@3", "ERR@20", "RBP", "RBP(p=0.5)", "RBP(p=0.95,rel=1)"]
    found = evaluate(qrels, run, [parse_measure(name) for name in names], min_rel=2)
    for query, judged in qrels.items():
        grades = [judged.get(document, 0) for document in run.get(query, {})]
        expected = [err(grades, 3), err(grades, 20), rbp(grades, 0.8, 2), rbp(grades, 0.5, 2), rbp(grades, 0.95, 1)]
        for name, value in zip(names, expected, strict=True):
            assert found[name][query] == pytest.approx(value, abs=6e-6), (name, query)  # gdeval rounds to 5 digits
    assert sum(found["ERR@20"].values()) > 0.5 and sum(found["RBP"].values()) > 0.5
    assert found["ERR@20"]["query-8 a"] == found["RBP"]["query-8 a"] == 0.0  # without hits


@pytest.mark.parametrize("min_rel", [1, 2])
def test_trec_eval_s_own_are_its_values(min_rel):
    qrels, run = made(5)
    theirs = {"Bpref": "bpref", "Rprec": "Rprec", "SetF": "set_F", "IPrec@0.1": "iprec_at_recall_0.10"}
    found = evaluate(qrels, run, parse_measures(",".join(theirs)), min_rel)
    ranked = {query: {document: -place for place, document in enumerate(hits)} for query, hits in run.items()}
    expected = pytrec_eval.RelevanceEvaluator(qrels, {*theirs.values()}, relevance_level=min_rel).evaluate(ranked)
    for ours, name in theirs.items():
        for query in qrels:
            assert found[ours][query] == pytest.approx(expected.get(query, {}).get(name, 0.0)), (ours, query)
    assert sum(found["Bpref"].values()) > 0


def test_names_of_trec_eval_are_other_names_of_the_same_values():
    qrels, run = made(7)
    aliases = {
        "ndcg_cut_10": "nDCG@10",
        "map": "AP",
        "P_5": "P@5",
        "p_5": "P@5",
        "recip_rank": "RR",
        "recall_100": "R@100",
        "success_10": "Success@10",
        "map_cut_5": "AP@5",
        "bpref": "Bpref",
        "Rprec": "rprec",
        "NDCG@10": "nDCG@10",
        "Precision@5": "P@5",
    }
    names = [*aliases, *aliases.values()]
    found = evaluate(qrels, run, [parse_measure(name) for name in names])
    for name, other in aliases.items():
        assert found[name] == found[other] and sum(found[name].values()) > 0, name
    assert parse_measure("success_20").kind == "success" and parse_measure("success_20").k == 20


def test_gains_and_judged_documents_alone():
    qrels = {"q": {"a": 2, "b": 1, "c": 0}}
    run = {"q": rank({"x": 4.0, "b": 3.0, "a": 2.0})}
    found = evaluate(qrels, run, parse_measures("nDCG(gains={1:3, 2:9})@3, RR(judged_only=True)"))
    best = 9 + 3 / math.log2(3)
    assert found["nDCG(gains={1:3, 2:9})@3"]["q"] == pytest.approx((3 / math.log2(3) + 9 / 2) / best)
    assert found["RR(judged_only=True)"]["q"] == 1.0


def test_commas_in_parentheses_belong_to_a_measure():
    assert split_measures("RBP(p=0.8,rel=2)@5, nDCG(gains={1:2,2:3})@10,,AP,AP") == [
        "RBP(p=0.8,rel=2)@5",
        "nDCG(gains={1:2,2:3})@10",
        "AP",
    ]
    assert depth_for(parse_measures("ERR@20,RBP")) >= 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nDGC@10", "is not known"),
        ("P", "is not known"),
        ("Recall", "needs a cutoff; write for instance R@10"),
        ("num_ret", "it is a count"),
        ("ERR", "without a cutoff; write for instance ERR@10"),
        ("P(x=1)@5", "it has no parameter x; it has cutoff, rel, judged_only"),
        ("RBP(p='a')", "'a' is not a value of p"),
        ("NumRet", "it is a count"),
        ("alpha_nDCG@5", "not installed; pip install"),
        ("P@0", "is not known"),
        ("ERR@99999999999999999999", "is not known"),
        ("__import__('os')", "is not known"),
        ("(" * 5000, "is not known"),
        ("all_trec", "is not known"),
        ("", "is not known"),
    ],
)
def test_what_cannot_be_computed_is_refused(text, said):
    with pytest.raises(InputError) as refusal:
        parse_measure(text)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_grades_that_err_does_not_know_are_refused():
    with pytest.raises(InputError, match="knows grades up to 4, and the judgements have 5"):
        evaluate({"q": {"d": 5}}, {"q": {"d": 1.0}}, [parse_measure("ERR@10")])


def test_a_run_without_any_hit_has_zeros():
    assert evaluate({"q": {"d": 1}}, {}, parse_measures("ERR@10,RBP,Bpref")) == {
        name: {"q": 0.0} for name in ("ERR@10", "RBP", "Bpref")
    }
