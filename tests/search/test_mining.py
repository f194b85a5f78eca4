"""Mining's rules against a naive filter, and by hand."""

import random
from collections import Counter

import pytest

from drtools.cli.flags.mining import MiningFlags, parse_by_rank
from drtools.errors import InputError
from drtools.search.mining import choose_negatives, label_by_rank, parse_ranks

HITS = {f"d{n}": 10.0 - n for n in range(1, 11)}  # d1 scores 9, d10 scores 0


def chosen(positives=("d2",), lowest=8.0, **flags):
    removed = Counter()
    return list(choose_negatives("q", HITS, set(positives), lowest, MiningFlags(**flags), removed)), dict(removed)


def test_positives_are_never_negatives_and_ranks_are_raw():
    assert chosen(ranks="1-4") == (["d1", "d3", "d4"], {"positives": 1})
    assert chosen(ranks="3-4") == (["d3", "d4"], {})
    assert chosen(ranks="4") == (["d1", "d3", "d4"], {"positives": 1})


def test_each_filter_by_hand():
    assert chosen(max_score=2.0)[0] == ["d8", "d9", "d10"]
    assert chosen(min_score=6.0)[0] == ["d1", "d3", "d4"]
    assert chosen(absolute_margin=5.0) == (["d7", "d8", "d9", "d10"], {"positives": 1, "absolute_margin": 5})
    assert chosen(relative_margin=0.25)[0] == ["d4", "d5", "d6", "d7", "d8", "d9", "d10"]  # 8 - 8 * .25 = 6
    assert chosen(relative_margin=0.25, lowest=None)[0] == []


def test_a_negative_score_of_the_positive_still_lowers_the_bar():
    hits = {"a": -1.0, "b": -2.4, "c": -2.5, "d": -3.0}
    kept = choose_negatives("q", hits, set(), -2.0, MiningFlags(relative_margin=0.25), Counter())
    assert list(kept) == ["c", "d"]  # -2 - 2 * .25 = -2.5


def test_filters_equal_sentence_transformers_rule_on_random_lists():
    generator = random.Random(1)
    for _ in range(200):
        hits = dict(sorted(((f"d{n}", generator.uniform(-1, 1)) for n in range(30)), key=lambda pair: -pair[1]))
        positives = set(generator.sample(list(hits), 3))
        lowest = min(hits[document] for document in positives)
        flags = MiningFlags(
            ranks="3-25", negatives=8, absolute_margin=0.05, relative_margin=0.1, max_score=0.9, min_score=-0.8
        )
        naive = []
        for rank, (document, score) in enumerate(hits.items(), 1):
            in_rules = 3 <= rank <= 25 and document not in positives and -0.8 <= score <= 0.9
            if in_rules and score <= lowest - 0.05 and score <= lowest - abs(lowest) * 0.1:
                naive.append(document)
        assert list(choose_negatives("q", hits, positives, lowest, flags, Counter())) == naive[:8]


def test_random_draws_are_seeded_and_stay_in_ranked_order():
    draws = [chosen(draw="random", negatives=4, seed=seed)[0] for seed in (1, 1, 2, 3)]
    assert draws[0] == draws[1] and len({tuple(draw) for draw in draws}) > 1
    for draw in draws:
        assert draw == sorted(draw, key=lambda document: int(document[1:])) and "d2" not in draw and len(draw) == 4


def test_labels_by_rank():
    example = label_by_rank("q", HITS, 2, (6, 8))
    assert (
        example.positives == ["d1", "d2"]
        and example.negatives == ["d6", "d7", "d8"]
        and example.negative_scores == [4, 3, 2]
    )
    assert label_by_rank("q", HITS, 2, (18, 20)).negatives == ["d8", "d9", "d10"], (
        "the bottom of a list that ends early"
    )
    assert label_by_rank("q", HITS, 8, (18, 20)) is None


@pytest.mark.parametrize("text", ["", "0-5", "5-2", "a-b", "1-2-3", "-3"])
def test_bad_ranks_are_named(text):
    with pytest.raises(InputError, match="ranks"):
        parse_ranks(text)


@pytest.mark.parametrize("text", ["10", "10:5-20", "x:11-20", "0:1-2", "3:"])
def test_bad_labels_are_named(text):
    with pytest.raises(InputError, match="--by-rank"):
        parse_by_rank(text)
