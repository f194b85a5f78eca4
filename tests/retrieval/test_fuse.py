"""Fusion against worked examples and a naive loop."""

import random

import pytest

from drtools.formats.trec import rank
from drtools.search.fusion import fuse, normalize, parts_of_runs, reciprocal_ranks, scores_of, weigh

FIRST, SECOND = {"a": 3.0, "b": 2.0, "c": 1.0}, {"c": 10.0, "d": 6.0}


def test_reciprocal_rank_by_hand():
    fused = weigh(reciprocal_ranks([FIRST, SECOND]), [1, 1], 9)
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62})
    assert weigh(reciprocal_ranks([FIRST, SECOND], k=0), [1, 0.5], 9)["c"] == pytest.approx(1 / 3 + 0.5)


def test_linear_by_hand():
    def linear(lists, weights, normalization, missing):
        return weigh(scores_of(lists, normalization, missing), weights, 9)

    assert linear([FIRST, SECOND], [1, 0.1], "none", "lowest") == pytest.approx(
        {"a": 3.6, "b": 2.6, "c": 2.0, "d": 1.6}
    )
    assert linear([FIRST, SECOND], [1, 0.1], "none", "zero") == pytest.approx({"a": 3.0, "b": 2.0, "c": 2.0, "d": 0.6})
    assert linear([FIRST, SECOND], [1, 1], "min-max", "lowest") == pytest.approx({"a": 1, "b": 0.5, "c": 1, "d": 0})
    assert linear([FIRST, {}], [1, 1], "none", "lowest") == FIRST
    assert linear([{}, {}], [1, 1], "none", "lowest") == {}


def test_normalizations():
    z = normalize(FIRST, "z-score")
    assert sum(z.values()) == pytest.approx(0) and sum(value**2 for value in z.values()) / 3 == pytest.approx(1)
    assert normalize({"a": 5.0}, "min-max") == {"a": 1.0} and normalize({"a": 5.0}, "z-score") == {"a": 0.0}


def test_runs_are_fused_query_by_query_and_cut():
    fused = fuse(parts_of_runs([{"q1": FIRST}, {"q1": SECOND, "q2": SECOND}], reciprocal_ranks), [1, 1], depth=2)
    assert {query: list(scores) for query, scores in fused.items()} == {"q1": ["c", "a"], "q2": ["c", "d"]}


@pytest.mark.parametrize("seed", range(20))
def test_any_lists_give_what_a_naive_loop_gives_in_its_order(seed):
    generator = random.Random(seed)
    names = [generator.choice("äbc") + str(n) for n in range(30)]
    lists = [
        rank(
            {
                name: generator.choice([0.5, 1 / 3, 7.0, generator.random()])
                for name in generator.sample(names, generator.randint(0, 25))
            }
        )
        for _ in range(3)
    ]
    weights = [1.0, generator.choice([0.0, 0.3, 100.0]), generator.random()]
    everything, by_rank = {}, {}
    for name in {name for scores in lists for name in scores}:
        everything[name] = by_rank[name] = 0.0
        for weight, scores in zip(
            weights, lists, strict=True
        ):  # not sum(), which Python 3.12 and later round otherwise
            everything[name] += weight * scores.get(name, min(scores.values(), default=0.0))
            by_rank[name] += weight * (1 / (60 + list(scores).index(name) + 1)) if name in scores else 0.0
    for parts, expected in ((scores_of(lists, "none", "lowest"), everything), (reciprocal_ranks(lists), by_rank)):
        for depth in (5, 99):
            assert list(weigh(parts, weights, depth).items()) == list(rank(expected).items())[:depth]
