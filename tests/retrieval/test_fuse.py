"""Fusion against worked examples and a naive loop."""

import pytest

from drtools.retrieval.fuse import fuse_runs, linear, normalize, reciprocal_rank

FIRST, SECOND = {"a": 3.0, "b": 2.0, "c": 1.0}, {"c": 10.0, "d": 6.0}


def test_reciprocal_rank_by_hand():
    fused = reciprocal_rank([FIRST, SECOND], [1, 1])
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62})
    assert reciprocal_rank([FIRST, SECOND], [1, 0.5], k=0)["c"] == pytest.approx(1 / 3 + 0.5)


def test_linear_by_hand():
    assert linear([FIRST, SECOND], [1, 0.1], "none", "lowest") == pytest.approx({"a": 3.6, "b": 2.6, "c": 2.0, "d": 1.6})
    assert linear([FIRST, SECOND], [1, 0.1], "none", "zero") == pytest.approx({"a": 3.0, "b": 2.0, "c": 2.0, "d": 0.6})
    assert linear([FIRST, SECOND], [1, 1], "min-max", "lowest") == pytest.approx({"a": 1, "b": 0.5, "c": 1, "d": 0})
    assert linear([FIRST, {}], [1, 1], "none", "lowest") == FIRST


def test_normalizations():
    z = normalize(FIRST, "z-score")
    assert sum(z.values()) == pytest.approx(0) and sum(value**2 for value in z.values()) / 3 == pytest.approx(1)
    assert normalize({"a": 5.0}, "min-max") == {"a": 1.0} and normalize({"a": 5.0}, "z-score") == {"a": 0.0}


def test_runs_are_fused_query_by_query_and_cut():
    fused = fuse_runs([{"q1": FIRST}, {"q1": SECOND, "q2": SECOND}], lambda lists: reciprocal_rank(lists, [1, 1]), depth=2)
    assert {query: list(scores) for query, scores in fused.items()} == {"q1": ["c", "a"], "q2": ["c", "d"]}
