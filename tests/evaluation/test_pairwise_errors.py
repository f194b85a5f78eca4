import random

import pytest

from drtools.evaluation.pairwise_errors import (
    bins_up_to,
    count_in_bins,
    errors_in_list,
    errors_in_top,
    share_of_worst,
    shares,
    sum_in_bins,
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
    # the top 2 that are not relevant are n1 and n2, however many relevant documents stand among them
    assert errors_in_top(documents, relevant, 2) == 1 + 2 + 2
    assert errors_in_top(documents, relevant, 3) == 1 + 3 + 3
    assert errors_in_top(documents, relevant, 7) == 1 + 3 + 7  # P3 has at least 3 above it, and counts as below the 7th
    assert errors_in_top([], relevant, 200) == 600


@pytest.mark.parametrize("seed", range(30))
def test_errors_equal_a_double_loop(seed):
    documents, relevant = lists(seed)
    assert errors_in_list(documents, relevant) == (
        pairs_in_wrong_order(documents, relevant),
        len(relevant - set(documents)),
    )
    for depth in (1, 5, 50):
        # a long list, cut below its first `depth` documents that are not relevant
        filled = [*documents, *(f"filler{n}" for n in range(depth))]
        others = [place for place, document in enumerate(filled) if document not in relevant]
        top = filled[: others[depth - 1] + 1]
        assert errors_in_top(documents, relevant, depth) == pairs_in_wrong_order(top, relevant)


def test_every_count_falls_into_one_bin():
    bins = bins_up_to(1234)
    assert bins[:5] == [(0, 0), (1, 1), (2, 4), (5, 9), (10, 19)] and bins[-1] == (1000, 1999)
    assert bins_up_to(0) == [(0, 0)]
    values = [0, 0, 1, 2, 4, 4.5, 5, 19, 20, 1234]
    expected = [sum(first <= value < last + 1 for value in values) for first, last in bins]
    assert count_in_bins(values, bins) == expected and sum(expected) == len(values)
    sums = [sum(value for value in values if first <= value < last + 1) for first, last in bins]
    assert sum_in_bins(values, bins) == sums
    assert shares(sums) == pytest.approx([each / sum(values) for each in sums]) and shares([0, 0]) == [0, 0]


def test_share_of_the_worst_queries():
    assert share_of_worst([1] * 18 + [30, 12]) == 42 / 60
    assert share_of_worst([3, 0, 1]) == 0.75  # a tenth of three is one query
    assert share_of_worst([0, 0]) == 0
