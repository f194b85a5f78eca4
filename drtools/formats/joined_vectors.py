"""Vectors of several folders that are read as one array: columns of two encoders, or rows of several shards.

The vectors of two encoders are concatenated or summed, while they are read or when they are written.

Only the query's second part is weighted by mu, so that the inner product of [q1, mu * q2] and [d1, d2] is s1 + mu * s2
for any mu of a query (Chen et al. 2022, 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from drtools.errors import InputError, param
from drtools.formats.joins import Join

if TYPE_CHECKING:
    import numpy as np

    from drtools.formats.ids import Ids

How = Literal["concat", "sum"]


def join(how: How, first: np.ndarray, second: np.ndarray, mu: float | np.ndarray = 1.0) -> np.ndarray:
    """Return float32 [v1, mu * v2] (`concat`) or v1 + mu * v2 (`sum`) of vectors [N, D1] and [N, D2].

    `mu` may have a value for each row, [N].
    """
    import numpy as np

    weighed = np.reshape(np.asarray(mu, np.float32), (-1, 1)) * np.asarray(second, np.float32)
    first = np.asarray(first, np.float32)
    return first + weighed if how == "sum" else np.concatenate([first, weighed], axis=1)


class JoinedArray:
    """Several arrays that are read as one [N, D]; only requested rows are copied."""

    shape: tuple[int, int]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        raise NotImplementedError


class JoinedRows(JoinedArray):
    """Arrays [N1, D], [N2, D] ... of one type, whose rows follow one another."""

    def __init__(self, arrays: Sequence[np.ndarray | JoinedArray]) -> None:
        import numpy as np

        self.arrays = arrays
        self.ends = np.cumsum([len(array) for array in arrays])
        self.shape, self.dtype = (int(self.ends[-1]), arrays[0].shape[1]), arrays[0].dtype

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        import numpy as np

        if isinstance(rows, slice):
            wanted = range(*rows.indices(len(self)))
            if wanted.step == 1:
                return self._between(wanted.start, wanted.stop)
            rows = np.array(wanted, np.int64)
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.where(rows < 0, rows + len(self), rows)
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        shards = np.searchsorted(self.ends, rows, side="right")
        for shard in np.unique(shards).tolist():
            places = np.flatnonzero(shards == shard)
            array = self.arrays[shard]
            found[places] = array[rows[places] - (int(self.ends[shard]) - len(array))]
        return found

    def _between(self, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop: a view if one array has them all."""
        import numpy as np

        parts = []
        for array, end in zip(self.arrays, self.ends.tolist(), strict=True):
            first = end - len(array)
            if start < end and stop > first:
                parts.append(array[max(start - first, 0) : min(stop, end) - first])
        if len(parts) == 1:
            return np.asarray(parts[0])
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), self.dtype)


class JoinedColumns(JoinedArray):
    """Two arrays [N, D1] and [N, D2] that are read as one; only requested rows are copied.

    `order` has the row of the second for each row of the first; None: the same.
    """

    def __init__(
        self,
        how: How,
        first: np.ndarray | JoinedArray,
        second: np.ndarray | JoinedArray,
        order: np.ndarray | None = None,
    ) -> None:
        import numpy as np

        if how == "sum" and first.shape[1] != second.shape[1]:
            raise InputError(
                f"vectors of {first.shape[1]} and of {second.shape[1]} dimensions cannot be added",
                remedy=f"use {param('how')} concat",
            )
        self.how, self.first, self.second, self.order = how, first, second, order
        self.shape = (len(first), first.shape[1] + (second.shape[1] if how == "concat" else 0))
        self.dtype = np.promote_types(first.dtype, second.dtype)

    def parts(self, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both parts of some rows separately."""
        return self.first[rows], self.second[rows if self.order is None else self.order[rows]]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return join(self.how, *self.parts(rows)).astype(self.dtype)


def order_of(ids: Ids, others: Ids, names: tuple[str, str]) -> np.ndarray | None:
    """Return the row among `others` of each id, None if both have the same ids in the same order.

    InputError for an id that they lack.
    """
    import numpy as np

    if ids.bytes[:] == others.bytes[:]:
        return None
    rows = np.empty(len(ids), np.int64)
    for first, block in ids.blocks():
        rows[first : first + len(block)] = others.find(block)
    lacking = ids.at(np.flatnonzero(rows < 0))
    if lacking:
        found = Join(others, names[1])
        found.count(len(rows), lacking)
        raise InputError(
            (
                f"has no vector of {lacking[0]!r}, which {names[0]} has ({len(lacking):,} of its {len(rows):,} texts "
                f"are missing) {found.pair()}"
            ),
            where=names[1],
            remedy="encode the same texts with both encoders",
        )
    return rows
