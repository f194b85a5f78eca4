import random

import pytest

from drtools.evaluation.errors import (
    bins_up_to,
    count_in_bins,
    errors_in_list,
    errors_in_top,
    expected_errors,
    share_of_worst,
)


def pairs_in_wrong_order(documents, relevant):
    """A double loop over (relevant, not relevant); a document that is not listed stands below the end."""
    place = {document: rank for rank, document in enumerate(documents)}
    others = [document for document in documents if document not in relevant]
    return sum(place[other] < place.get(document, len(documents)) for document in relevant for other in others)


def lists(seed):
    generator = random.Random(seed)
    corpus = [f"d{n}" for n in range(40)]
    relevant = set(generator.sample(corpus, generator.randint(1, 6)))
    return generator.sample(corpus, generator.randint(0, 40)), relevant


def test_an_example_worked_by_hand():
    # n1 P1 n2 n3 P2: P1 has 1 above it, P2 has 3; P3 is not listed and has all 3
    documents, relevant = ["n1", "P1", "n2", "n3", "P2"], {"P1", "P2", "P3"}
    assert errors_in_list(documents, relevant) == (1 + 3 + 3, 1)
    # the paper's rank(p) - 1 - relevant above p: 2 - 1 - 0 and 5 - 1 - 1
    assert errors_in_list(documents, {"P1", "P2"}) == ((2 - 1 - 0) + (5 - 1 - 1), 0)
    assert errors_in_top(documents, relevant, 3) == 1 + 2 + 2  # the top 3 hold n1 and n2
    assert errors_in_top(documents, relevant, 7) == 1 + 3 + 5  # 2 more that are not relevant fill up the top 7
    assert errors_in_top([], relevant, 200) == 600
    # of a corpus of 10, 4 that are not relevant are not listed: 2 of them above P3 on average
    assert expected_errors(documents, relevant, 10) == 7 + 2


@pytest.mark.parametrize("seed", range(30))
def test_errors_equal_a_double_loop(seed):
    documents, relevant = lists(seed)
    assert errors_in_list(documents, relevant) == (
        pairs_in_wrong_order(documents, relevant),
        len(relevant - set(documents)),
    )
    for depth in (1, 5, 50):
        filled = [*documents, *(f"filler{n}" for n in range(depth))][:depth]
        assert errors_in_top(documents, relevant, depth) == pairs_in_wrong_order(filled, relevant)


@pytest.mark.parametrize("seed", range(3))
def test_expected_errors_are_the_mean_over_orders_of_the_rest(seed):
    documents, relevant = lists(seed)
    documents = documents[:10]
    rest = [f"d{n}" for n in range(40) if f"d{n}" not in documents]
    generator = random.Random(seed)
    drawn = [pairs_in_wrong_order([*documents, *generator.sample(rest, len(rest))], relevant) for _ in range(4000)]
    assert expected_errors(documents, relevant, 40) == pytest.approx(sum(drawn) / len(drawn), rel=0.03)
    everything = [*documents, *rest]
    assert expected_errors(everything, relevant, 40) == errors_in_list(everything, relevant)[0]


def test_every_count_falls_into_one_bin():
    bins = bins_up_to(1234)
    assert bins[:5] == [(0, 0), (1, 1), (2, 4), (5, 9), (10, 19)] and bins[-1] == (1000, 1999)
    assert bins_up_to(0) == [(0, 0)]
    values = [0, 0, 1, 2, 4, 4.5, 5, 19, 20, 1234]
    expected = [sum(first <= value < last + 1 for value in values) for first, last in bins]
    assert count_in_bins(values, bins) == expected and sum(expected) == len(values)


def test_share_of_the_worst_queries():
    assert share_of_worst([1] * 18 + [30, 12]) == 42 / 60
    assert share_of_worst([3, 0, 1]) == 0.75  # a tenth of three is one query
    assert share_of_worst([0, 0]) == 0
