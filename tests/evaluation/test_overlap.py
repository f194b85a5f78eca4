import random

import pytest

from drtools.evaluation.overlap import rank_biased_overlap, share_still_hard


def naive(first, other, p):
    """Webber, Moffat and Zobel 2010, Eq. 32, term by term."""
    short, long = sorted((first, other), key=len)
    s, l = len(short), len(long)  # noqa: E741 the paper's letters

    def x(depth):
        return len(set(short[:depth]) & set(long[:depth]))

    seen = sum(x(d) / d * p**d for d in range(1, l + 1))
    going_on = sum(x(s) * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * (seen + going_on) + ((x(l) - x(s)) / l + x(s) / s) * p**l


@pytest.mark.parametrize("seed", range(40))
def test_it_equals_the_formula(seed):
    generator = random.Random(seed)
    first, other = (generator.sample("abcdefghijklmnopqrstuvwxyz", generator.randint(1, 26)) for _ in range(2))
    for p in (0.5, 0.9, 0.98):
        assert rank_biased_overlap(first, other, p) == pytest.approx(naive(first, other, p), abs=1e-12)
        assert rank_biased_overlap(other, first, p) == pytest.approx(rank_biased_overlap(first, other, p), abs=1e-12)


def test_examples_worked_by_hand():
    # nothing in common at depth 1, everything at depth 2: (1 - .5) / .5 * (0/1 * .5 + 2/2 * .25) + 2/2 * .25
    assert rank_biased_overlap("ab", "ba", 0.5) == pytest.approx(0.5)
    # README of b4ny4n/rankmeasures: 1 2 3 4 5 and 2 3 4 1 5 have .828
    assert rank_biased_overlap("12345", "23415", 0.9) == pytest.approx(0.828, abs=5e-4)


def test_its_properties():
    letters = "abcdefghij"
    for p in (0.1, 0.9, 0.999):
        assert rank_biased_overlap(letters, letters, p) == pytest.approx(1)
        assert rank_biased_overlap(letters, letters[:4], p) == pytest.approx(1)  # one goes on where the other ends
        assert rank_biased_overlap(letters, "klmnopqrst", p) == 0
    assert rank_biased_overlap("", "", 0.9) == 1 and rank_biased_overlap("a", "", 0.9) == 0
    # the higher a swap the dearer
    assert rank_biased_overlap(letters, "bacdefghij", 0.9) < rank_biased_overlap(letters, "abcdefghji", 0.9) < 1


def test_what_follows_a_prefix_can_change_it_only_by_its_weight():
    # Eq. 21: after depth d nothing can move RBO by more than the residual, below p ** d for any agreement
    generator = random.Random(1)
    for _ in range(20):
        first, other = (generator.sample(range(60), 60) for _ in range(2))
        for depth in (10, 30):
            assert (
                abs(rank_biased_overlap(first[:depth], other[:depth], 0.9) - rank_biased_overlap(first, other, 0.9))
                <= 0.9**depth
            )


def test_share_still_hard():
    ranking = ["n1", "P", "n2", "x", "n3", "n4"]
    assert share_still_hard(["n1", "n2", "n3", "n4"], ranking, {"P"}, 3) == 0.5  # n1, n2 and x are the top 3
    mined = [document for document in ranking if document != "P"][:4]
    assert share_still_hard(mined, ranking, {"P"}, 4) == 1
    assert share_still_hard(["a"], ranking, {"P"}, 200) == 0
