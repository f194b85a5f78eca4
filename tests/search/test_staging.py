"""Parts of an array that are copied through two halves, against the array itself."""

import numpy as np
import pytest
import torch

from drtools.formats.joined_vectors import JoinedColumns, JoinedRows
from drtools.search import exact, staging


@pytest.fixture(params=["float16", "float32", "columns", "rows"])
def array(request):
    random = np.random.default_rng(1)
    if request.param == "columns":
        return JoinedColumns("concat", random.random((1000, 5), np.float32), random.random((1000, 3), np.float32))
    if request.param == "rows":
        return JoinedRows([random.random((250, 8), np.float32), random.random((750, 8), np.float32)])
    return random.random((1000, 8), np.float32).astype(request.param)


def test_parts_are_those_of_the_array_in_their_order(array):
    rows = np.random.default_rng(2).integers(0, 1000, 70)
    parts = [slice(0, 300), slice(300, 600), rows, rows[:0], slice(900, 1200), slice(5, 6)]
    found = [(count, rows.clone()) for count, rows in staging.staged(array, parts, "cpu")]
    assert [count for count, _ in found] == [300, 300, 70, 0, 100, 1]
    for (count, rows), part in zip(found, parts, strict=True):
        assert str(rows.dtype).removeprefix("torch.") == str(array.dtype) and len(rows) == count
        np.testing.assert_array_equal(rows.numpy(), array[part])
    assert [*staging.staged(array, [], "cpu")] == []


def test_a_part_that_was_yielded_does_not_change_when_its_half_is_filled_again(array):
    kept = [rows for _, rows in staging.staged(array, [slice(at, at + 100) for at in range(0, 1000, 100)], "cpu")]
    np.testing.assert_array_equal(torch.cat(kept).numpy(), array[:])


@pytest.mark.parametrize("count", [0, 1, 2, 777])
def test_gathered_rows_are_float32(array, count, monkeypatch):
    monkeypatch.setattr(staging, "HALF_BYTES", 100 * 8 * array.dtype.itemsize)
    rows = np.random.default_rng(3).integers(0, 1000, count)
    found = staging.gathered(array, rows, "cpu")
    assert found.dtype == torch.float32 and found.shape == (count, 8)
    np.testing.assert_array_equal(found.numpy(), array[rows].astype(np.float32))


def test_blocks_of_exact_search_are_the_same_through_halves(array):
    for (start, count, block), (_, _, staged) in zip(
        exact.blocks(array, 48, "cpu"), exact.blocks(array, 48, "cpu:0"), strict=True
    ):
        assert count == min(48, 1000 - start)
        np.testing.assert_array_equal(staged.numpy(), block.numpy())
