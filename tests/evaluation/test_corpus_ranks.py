"""Counts over a whole corpus against a double loop and the ranks of exact search, with ties and in blocks."""

import json

import numpy as np
import pytest

from drtools import reporting
from drtools.cli import console
from drtools.errors import InputError
from drtools.evaluation import corpus_ranks
from drtools.evaluation.analyses.errors import errors_in_corpus
from drtools.evaluation.corpus_ranks import above_in_corpus, count_above, scores_of
from drtools.evaluation.sides import open_sides, with_documents, with_vectors
from drtools.formats.joined_vectors import JoinedColumns
from drtools.search import exact


def naive(vectors, queries, rows):
    """Count, pair by pair, what scores more or the same in a lower row."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return [
        [
            sum(own[other] > own[row] or (own[other] == own[row] and other < row) for other in range(len(own)))
            for row in some
        ]
        for own, some in zip(scores.tolist(), rows, strict=True)
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("count", [1, 15, 16, 100])
def test_counts_equal_a_double_loop_with_ties_in_any_block(monkeypatch, dtype, count):
    monkeypatch.setitem(exact.BLOCK_BYTES, "cpu", 4 * 16 * 20)  # blocks of 16 rows
    monkeypatch.setattr(corpus_ranks, "PAIRS_A_COUNT", 5)
    monkeypatch.setattr(exact, "CHUNK_QUERIES", 7)
    draw = np.random.default_rng(count)
    vectors = draw.integers(-1, 2, (count, 4)).astype(dtype)  # few values: most scores tie
    queries = draw.integers(-2, 3, (17, 4)).astype(np.float32)
    rows = [draw.choice(count, min(count, int(n)), replace=False) for n in draw.integers(0, 6, 17)]
    done = []
    found = count_above(vectors, queries, rows, on_progress=done.append)
    assert [each.tolist() for each in found] == naive(vectors, queries, rows)
    assert sum(done) == count and sum(map(len, rows)) > 10


@pytest.mark.bits
def test_counts_are_the_ranks_of_exact_search(monkeypatch):
    monkeypatch.setitem(exact.BLOCK_BYTES, "cpu", 4 * 64 * 60)
    draw = np.random.default_rng(1)
    vectors = draw.normal(size=(900, 24)).astype(np.float16)
    vectors[700] = vectors[20]
    queries = draw.normal(size=(40, 24)).astype(np.float32)
    rows = [np.array([20, 700, *draw.choice(900, 3)]) for _ in range(40)]
    order = exact.search(vectors, queries, 900)[1]
    expected = [[int(np.flatnonzero(listed == row)[0]) for row in own] for listed, own in zip(order, rows, strict=True)]
    assert [each.tolist() for each in count_above(vectors, queries, rows)] == expected
    joined = JoinedColumns("concat", vectors[:, :10], vectors[:, 10:])
    assert [each.tolist() for each in count_above(joined, queries, rows)] == expected


def test_vectors_that_are_not_finite_are_refused():
    vectors = np.ones((40, 4), np.float32)
    vectors[33] = np.nan
    with pytest.raises(InputError, match="row 33"):
        count_above(vectors, np.ones((2, 4), np.float32), [np.array([1]), np.array([2])])


def folder(path, array, ids, side, fingerprint="f"):
    path.mkdir()
    np.save(path / "vectors.npy", array.astype(np.float32))
    (path / "ids.txt").write_text("".join(f"{each}\n" for each in ids))
    record = {"kind": "vectors", "side": side, "document_fingerprint": fingerprint, "fingerprint": path.name}
    record |= {"count": len(array), "dimension": array.shape[1], "dtype": "float32", "normalized": False, "model": "m"}
    record |= {"corpus": None, "title_separator": None, "max_tokens": None, "query_fingerprint": fingerprint}
    (path / "manifest.json").write_text(json.dumps(record))
    return str(path)


@pytest.fixture
def world(tmp_path):
    draw = np.random.default_rng(2)
    documents = folder(tmp_path / "documents", draw.normal(size=(2000, 8)), [f"d{n}" for n in range(2000)], "document")
    queries = folder(tmp_path / "queries", draw.normal(size=(6, 8)), [f"q{n}" for n in range(6)], "query")
    return documents, queries


def test_a_relevant_document_at_rank_1500_has_1499_errors(world):
    """One that a run of 1,000 does not list was guessed to have half the corpus above it."""
    documents, queries = (np.load(f"{path}/vectors.npy") for path in world)
    order = np.argsort(-(queries @ documents.T), axis=1, kind="stable")
    relevant = {f"q{n}": {f"d{order[n, 1499]}"} for n in range(5)} | {"q5": {f"d{order[5, at]}" for at in (3, 7, 1500)}}
    sides = open_sides([world[0]], {"queries": world[1]})["queries"]
    above = above_in_corpus("queries", sides, relevant, "cpu")
    assert above == {f"q{n}": [1499] for n in range(5)} | {"q5": [3, 6, 1498]}
    errors = errors_in_corpus(above, 200)
    assert errors["in_all"] == {f"q{n}": 1499 for n in range(5)} | {"q5": 3 + 6 + 1498} and errors["exact"]
    assert errors["against_top"] == {f"q{n}": 200 for n in range(5)} | {"q5": 3 + 6 + 200}
    assert errors["mean_in_all"] == pytest.approx((5 * 1499 + 1507) / 6)


def test_scores_are_inner_products_of_what_there_is(world):
    documents, queries = (np.load(f"{path}/vectors.npy") for path in world)
    sides = open_sides([world[0]], {"queries": world[1]})["queries"]
    found = scores_of(sides, {"q3": ["d9", "gone", "d4"], "q1": []})
    assert found == {
        "q3": {f"d{n}": pytest.approx(float(queries[3] @ documents[n]), rel=1e-5) for n in (9, 4)},
        "q1": {},
    }


def test_what_has_no_vector_is_left_out_everywhere_and_counted(world, tmp_path):
    console.configure("analyze", True, False, False)
    fewer = folder(tmp_path / "fewer", np.ones((3, 8)), ["q1", "q2", "q3"], "query")
    sides = open_sides([world[0]], {"queries": world[1], "fewer": fewer})
    relevant = {"q0": {"d1"}, "q1": {"d2", "gone"}, "q2": {"gone"}, "q3": {"d4"}}
    kept = with_documents(with_vectors(relevant, sides), sides)
    assert kept == {"q1": {"d2"}, "q3": {"d4"}}
    assert [text.split(" ", 1)[1] for text in reporting.notices()] == [
        "has no vector of 1 of 4 queries; they are left out",
        "lacks 2 of 4 relevant documents; they are left out",
    ]
    with pytest.raises(InputError, match="holds none of the 1 relevant documents, for instance 'gone'"):
        with_documents({"q2": {"gone"}}, sides)
    with pytest.raises(InputError, match="queries: holds no vector of any of the 1 queries, for instance 'q9'"):
        with_vectors({"q9": {"d1"}}, sides)


def test_vectors_that_do_not_belong_together_are_refused(world, tmp_path):
    other = folder(tmp_path / "other", np.ones((1, 8)), ["q1"], "query", "g")
    for documents, queries, words in (
        ([world[0]], {"a": world[1], "b": other}, "another encoder"),
        ([world[0]], {"a": world[0]}, "expected vectors of queries"),
        ([world[1]], {"a": world[1]}, "expected vectors of documents"),
        ([world[0]] * 3, {"a": world[1], "b": world[1]}, "3 vectors for 2 query_vectors"),
    ):
        with pytest.raises(InputError, match=words):
            open_sides(documents, queries)
    assert list(open_sides([world[0]] * 2, {"a": world[1], "b": world[1]})) == ["a", "b"]
