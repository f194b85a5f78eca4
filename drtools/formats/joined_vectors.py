"""Joined vectors of two encoders: concatenated or summed, while they are read or when they are written.

Only the query's second part is weighted by mu, so that the inner product of [q1, mu * q2] and [d1, d2] is s1 + mu * s2
for any mu of a query (Chen et al. 2022, 3.3).
"""

from __future__ import annotations

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
        self.shape: tuple[int, int] = (len(first), first.shape[1] + (second.shape[1] if how == "concat" else 0))
        self.dtype: np.dtype = np.promote_types(first.dtype, second.dtype)

    def __len__(self) -> int:
        return self.shape[0]

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
