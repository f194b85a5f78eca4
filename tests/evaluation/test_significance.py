import math
import random

import pytest

from drtools.evaluation.significance import holm, paired_randomization_test, paired_t_test


def test_a_t_test_worked_by_hand():
    # differences 1, 2, 3: mean 2, standard deviation 1, t = 2 / (1 / sqrt 3) = 3.4641 with 2 degrees of freedom, for
    # which the two-tailed p is 1 - t / sqrt(t^2 + 2) = 1 - 3.4641 / sqrt(14) = 0.0742
    assert paired_t_test({"a": 1.0, "b": 1.0, "c": 1.0}, {"c": 4.0, "a": 2.0, "b": 3.0}) == pytest.approx(
        0.0742, abs=5e-5
    )


def test_agrees_with_scipy_in_both_directions():
    from scipy.stats import ttest_rel

    rng = random.Random(3)
    for count in (2, 3, 50, 1000):
        first = {f"q{i}": rng.random() for i in range(count)}
        other = {query: value + rng.gauss(0.02, 0.1) for query, value in first.items()}
        expected = ttest_rel(list(first.values()), list(other.values())).pvalue
        assert paired_t_test(first, other) == pytest.approx(expected, rel=1e-9)
        assert paired_t_test(other, first) == pytest.approx(expected, rel=1e-9)


def test_edges():
    same = {"a": 0.5, "b": 0.25}
    assert paired_t_test(same, dict(same)) == 1.0
    assert paired_t_test(same, {"a": 1.0, "b": 0.75}) == 0.0  # each query better by exactly as much
    assert math.isnan(paired_t_test({"a": 0.5}, {"a": 1.0}))
    assert math.isnan(paired_t_test({}, {}))


@pytest.mark.parametrize(
    "p_values, adjusted",
    [
        (
            [0.01, 0.04, 0.03, 0.005],
            [0.03, 0.06, 0.06, 0.02],
        ),  # the textbook example: 4 x .005, 3 x .01, 2 x .03, then no less
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([0.01, 0.01], [0.02, 0.02]),
        ([], []),
    ],
)
def test_holm(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_keeps_what_was_not_tested():
    assert all(math.isnan(value) for value in holm([math.nan, math.nan]))


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = random.Random(5)
    for _ in range(200):
        p_values = [rng.random() ** 3 for _ in range(rng.randrange(1, 8))]
        level = rng.choice([0.01, 0.05, 0.2])
        rejected = set()
        for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[i] > level / (len(p_values) - place):
                break
            rejected.add(i)
        assert {i for i, value in enumerate(holm(p_values)) if value <= level} == rejected


@pytest.mark.parametrize("count", [2, 5, 12, 16])
def test_a_randomization_test_of_few_queries_tries_every_flip(count):
    from itertools import product

    rng = random.Random(count)
    first = {f"q{i}": rng.choice([0.0, 0.5, 1.0]) for i in range(count)}
    other = {query: value + rng.choice([0.0, 0.0, 0.3, -0.1, 0.25]) for query, value in first.items()}
    differences = [other[query] - first[query] for query in first]
    observed = abs(sum(differences)) - 1e-9
    if count <= 12:
        sums = [
            abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
            for signs in product((1, -1), repeat=count)
        ]
        expected = sum(each >= observed for each in sums) / len(sums)
        assert paired_randomization_test(first, other) == pytest.approx(expected)
    from scipy.stats import permutation_test

    theirs = permutation_test(
        (list(other.values()), list(first.values())),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        n_resamples=1e6,
        vectorized=True,
    )
    assert paired_randomization_test(first, other) == pytest.approx(min(1.0, theirs.pvalue))
    assert paired_randomization_test(other, first) == paired_randomization_test(first, other)


def test_a_randomization_test_of_many_queries_is_near_the_t_test_and_repeats():
    rng = random.Random(4)
    first = {f"q{i}": rng.random() for i in range(300)}
    other = {query: value + rng.gauss(0.01, 0.2) for query, value in first.items()}
    found = paired_randomization_test(first, other)
    assert found == paired_randomization_test(first, other)
    assert 0.001 < found < 0.9 and found == pytest.approx(paired_t_test(first, other), abs=0.01)
    far = {query: value + 1 for query, value in first.items()}
    assert paired_randomization_test(first, far) == 1 / 100_001


def test_edges_of_a_randomization_test():
    same = {"a": 0.5, "b": 0.25}
    assert paired_randomization_test(same, dict(same)) == 1.0
    assert math.isnan(paired_randomization_test({"a": 0.5}, {"a": 1.0}))
