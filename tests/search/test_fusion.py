"""Fusion against worked examples and a naive loop."""

import random

import pytest

from drtools import reporting
from drtools.cli import console
from drtools.formats.joins import note_little_in_common
from drtools.formats.trec import rank
from drtools.search.fusion import fuse, normalize, normalized_scores, parts_of_runs, reciprocal_ranks, weigh

FIRST, SECOND = {"a": 3.0, "b": 2.0, "c": 1.0}, {"c": 10.0, "d": 6.0}


def test_reciprocal_rank_by_hand():
    fused = weigh(reciprocal_ranks([FIRST, SECOND]), [1, 1], 9)
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62})
    assert weigh(reciprocal_ranks([FIRST, SECOND], k=0), [1, 0.5], 9)["c"] == pytest.approx(1 / 3 + 0.5)


def test_linear_by_hand():
    def linear(lists, weights, normalization, missing):
        return weigh(normalized_scores(lists, normalization, missing), weights, 9)

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
    for parts, expected in (
        (normalized_scores(lists, "none", "lowest"), everything),
        (reciprocal_ranks(lists), by_rank),
    ):
        for depth in (5, 99):
            assert list(weigh(parts, weights, depth).items()) == list(rank(expected).items())[:depth]


def lists(name, queries=50, depth=10, step=1):
    """Return a run whose documents are called by `name` of their numbers."""
    return {f"q{q}": {name(q * 100 + step * n): 1.0 - n / depth for n in range(depth)} for q in range(queries)}


@pytest.mark.parametrize("other", ["D{}", "d{:06}", "d{}.0"])
def test_ids_that_differ_in_their_spelling_are_noted_however_many_are_shared(other):
    """In 9 of 50 queries the ids are alike, and in the others one has them in another spelling: 410 of 500."""
    first = lists("d{}".format)
    second = {query: first[query] if int(query[1:]) < 9 else hits for query, hits in lists(other.format).items()}
    console.configure("test")
    note_little_in_common("a.run", first, "b.run", second)
    (said,) = reporting.notices()
    different = sum(len(first[query].keys() - second[query].keys()) for query in first)
    assert "list 90 documents in common" in said or other == "d{:06}", said
    assert f"{different:,} more whose ids differ only in their spelling" in said, said


def test_few_documents_in_common_are_noted_and_usual_overlap_is_not():
    first = lists("d{}".format)
    few = {query: hits if query == "q0" else {f"e{n}": 1.0 for n in range(10)} for query, hits in first.items()}
    for second, said in (
        (lists("d{}".format, step=5), ""),  # 2 of 10 in each list
        (few, "a.run and b.run list only 10 of 500 documents in common (for instance 'd100'; b.run has 'e0')"),
        (lists("e{}".format), "a.run and b.run list no document in common (for instance 'd0'; b.run has 'e0')"),
        ({"q1": {"d100": 1.0, "x": 0.5}}, ""),
    ):
        console.configure("test")
        note_little_in_common("a.run", first, "b.run", second)
        assert [note.startswith(said) for note in reporting.notices()] == ([True] if said else []), reporting.notices()


def test_documents_that_differ_by_a_zero_within_one_list_are_two():
    console.configure("test")
    note_little_in_common("a", {"q": {"d1": 1.0, "d01": 0.5}}, "b", {"q": {"d1": 1.0, "d001": 0.5}})
    note_little_in_common("a", {"q": {"p7-3": 1.0, "x": 0.5}}, "b", {"q": {"p73": 1.0, "x": 0.5}})
    assert not reporting.notices()


def test_the_tool_notes_another_spelling_and_fails_under_strict(tmp_path, drtools):
    runs = [tmp_path / name for name in ("a.run", "b.run")]
    for run, name in zip(runs, ("d{}", "D{}"), strict=True):
        run.write_text("".join(f"q{q} Q0 {name.format(n)} {n} {9 - n}.0 x\n" for q in range(5) for n in range(1, 9)))
    outcome = drtools("fuse", *runs, "-o", tmp_path / "c.run")
    assert outcome.status == 0 and "differ only in their spelling (for instance 'd1'" in outcome.err, outcome.err
    refused = drtools("fuse", *runs, "--strict", "-o", tmp_path / "d.run")
    assert refused.status == 2 and "use the same spelling; without --strict" in refused.err, refused.err
