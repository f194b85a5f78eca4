"""Exact search against a double loop over integers, whose float32 sums are exact, so that ties are real."""

import numpy as np
import pytest

from drtools.errors import InputError
from drtools.search import exact


def by_double_loop(vectors, queries, depth):
    """Return (scores, rows): every product in Python integers, sorted by score down and row up."""
    scores, rows = [], []
    for query in queries:
        pairs = sorted(
            (-sum(int(a) * int(b) for a, b in zip(query, vector, strict=True)), row)
            for row, vector in enumerate(vectors)
        )[:depth]
        scores.append([-score for score, _ in pairs])
        rows.append([row for _, row in pairs])
    return np.array(scores, np.float32), np.array(rows)


def integers(seed, count, dimension, dtype=np.float32, low=-2, high=3):
    return np.random.default_rng(seed).integers(low, high, (count, dimension)).astype(dtype)


def assert_same(found, expected):
    scores, rows = found
    assert scores.dtype == np.float32 and rows.dtype == np.int64
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(scores, expected[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("count", "depth", "block_rows"),
    [
        (300, 10, 64),  # several blocks, the last one ragged
        (300, 100, 16),  # depth above the block
        (300, 300, 48),
        (7, 50, None),  # fewer rows than the depth
        (1, 5, None),
        (257, 1, 32),
        (64, 64, 64),
    ],
)
def test_equals_a_double_loop_with_many_ties(dtype, count, depth, block_rows):
    # 3 dimensions of 5 values: at most 25 scores, so that nearly all rows tie
    vectors, queries = integers(0, count, 3, dtype), integers(1, 19, 3)
    assert_same(exact.search(vectors, queries, depth, block_rows=block_rows), by_double_loop(vectors, queries, depth))


def test_equal_vectors_come_by_row_and_zero_has_no_sign():
    queries = np.array([[1, 0], [-1, 0], [0, 0]], np.float32)
    vectors = np.tile(np.array([[0, 1], [-0.0, -1]], np.float32), (100, 1))
    scores, rows = exact.search(vectors, queries, 150, block_rows=32)
    assert (rows == np.arange(150)).all() and (scores == 0).all()


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_rows_sorted_by_score_are_the_hard_cases_of_the_threshold(order):
    vectors = np.repeat(np.arange(-250, 250, dtype=np.float32), 2)[:, None] * np.ones((1, 4), np.float32)
    if order == "descending":
        vectors = vectors[::-1]
    queries = integers(3, 5, 4)
    assert_same(exact.search(vectors, queries, 20, block_rows=32), by_double_loop(vectors, queries, 20))


def test_more_queries_than_a_chunk():
    vectors, queries = integers(0, 90, 4), integers(1, exact.CHUNK_QUERIES + 3, 4)
    assert_same(exact.search(vectors, queries, 5), by_double_loop(vectors, queries, 5))


def test_no_query_gives_empty_arrays():
    scores, rows = exact.search(integers(0, 9, 4), np.empty((0, 4), np.float32), 5)
    assert scores.shape == rows.shape == (0, 5)


def test_real_numbers_out_of_a_memory_map(tmp_path):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "vectors.npy", generator.standard_normal((2000, 24)).astype(np.float16))
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    queries = generator.standard_normal((33, 24)).astype(np.float32)
    truth = queries.astype(np.float64) @ vectors.astype(np.float64).T
    done = []
    scores, rows = exact.search(vectors, queries, 50, block_rows=160, on_progress=done.append)
    np.testing.assert_allclose(scores, -np.sort(-truth)[:, :50], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(truth, rows, 1), scores, atol=1e-5)
    assert done == [*range(160, 2000, 160), 2000]


def test_block_size_and_company_do_not_change_a_score():
    generator = np.random.default_rng(0)
    vectors, queries = (generator.standard_normal((count, 100)).astype(np.float32) for count in (1000, 50))
    scores, rows = exact.search(vectors, queries, 30)
    for block_rows in (16, 100, 333):
        again = exact.search(vectors, queries, 30, block_rows=block_rows)
        np.testing.assert_array_equal(again[1], rows)
        np.testing.assert_allclose(again[0], scores, rtol=1e-6)
    np.testing.assert_allclose(exact.search(vectors, queries[7:8], 30)[0][0], scores[7], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rerank_scores_given_rows_in_their_order(dtype):
    vectors, queries = integers(0, 50, 6, dtype), integers(1, 3, 6)
    candidates = [np.array([49, 0, 17, 17]), np.array([], np.int64), np.array([3])]
    found = exact.rerank(vectors, queries, candidates)
    for query, rows, scores in zip(queries, candidates, found, strict=True):
        assert scores.dtype == np.float32
        assert scores.tolist() == [
            sum(int(a) * int(b) for a, b in zip(query, vectors[row], strict=True)) for row in rows
        ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(value, tmp_path):
    vectors, queries = integers(0, 100, 4), integers(1, 3, 4)
    queries[0] = 0  # infinity times zero is no number either
    broken = vectors.copy()
    broken[77, 2] = value
    np.save(tmp_path / "vectors.npy", broken)
    with pytest.raises(InputError, match=r"vectors\.npy, row 77 "):
        exact.search(np.load(tmp_path / "vectors.npy", mmap_mode="r"), queries, 5, block_rows=32)
    with pytest.raises(InputError, match="row 77 "):
        exact.rerank(broken, queries, [np.array([1]), np.array([5, 77]), np.array([2])])
    queries[2, 1] = value
    with pytest.raises(InputError, match="query vector 2 "):
        exact.search(vectors, queries, 5)


def test_other_dimensions_and_no_vectors_are_refused():
    with pytest.raises(InputError, match="the queries have 3 dimensions and the vectors 4"):
        exact.search(integers(0, 5, 4), integers(0, 5, 3), 5)
    with pytest.raises(InputError, match="found no row"):
        exact.search(np.empty((0, 4), np.float32), integers(0, 5, 4), 5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_tensor_that_is_kept_gives_what_the_file_gives(dtype):
    import torch

    random = np.random.default_rng(4)
    vectors, queries = (
        random.standard_normal((1001, 24)).astype(dtype),
        random.standard_normal((7, 24)).astype(np.float32),
    )
    from_array, from_tensor = (
        exact.search(vectors, queries, 50, block_rows=160),
        exact.search(torch.from_numpy(vectors), queries, 50, block_rows=160),
    )
    for one, other in zip(from_array, from_tensor, strict=True):
        np.testing.assert_array_equal(one, other)
