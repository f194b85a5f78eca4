"""Ids of the rows of vectors or of an index, in a file next to them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING

from drtools import units
from drtools.errors import InputError

if TYPE_CHECKING:
    import numpy as np

IDS_A_LOOK = 1 << 16
DAMAGED = "the folder was damaged, make it again"


class Ids:
    """The ids of rows, one per line of a file. Takes 8 bytes per row, and 16 more once rows are looked up by id."""

    def __init__(self, path: Path) -> None:
        import numpy as np

        self.path = path
        with open(path, "rb") as stream:
            self.bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        ends = [
            np.flatnonzero(np.frombuffer(self.bytes[start : start + (1 << 24)], np.uint8) == 10) + start
            for start in range(0, len(self.bytes), 1 << 24)
        ]
        self.ends = np.concatenate([np.empty(0, np.int64), *ends])
        if len(self.bytes) and self.bytes[-1:] != b"\n":
            self.ends = np.append(self.ends, len(self.bytes))

    def check_count(self, count: int) -> None:
        """Raise InputError if there are not as many ids as rows."""
        if len(self) != count:
            found = units.counted(len(self), "id")
            raise InputError(found, where=self.path, expected=f"{count:,}", remedy=DAMAGED)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> str:
        start = int(self.ends[row - 1]) + 1 if row else 0
        try:
            return self.bytes[start : int(self.ends[row])].decode()
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8 ({error})", where=f"{self.path}:{row + 1}", remedy=DAMAGED) from None

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __contains__(self, document_id: object) -> bool:
        return isinstance(document_id, str) and self.row_of(document_id) is not None

    def at(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return the ids of rows, many at once."""
        import numpy as np

        wanted = np.asarray(rows, np.int64)
        if not len(wanted):
            return []
        starts = np.where(wanted > 0, self.ends[wanted - 1] + 1, 0).tolist()
        try:
            found = map(self.bytes.__getitem__, map(slice, starts, self.ends[wanted].tolist()))
            return b"\n".join(found).decode().split("\n")
        except UnicodeDecodeError:
            return [self[row] for row in wanted.tolist()]  # raises an error that names the line

    def blocks(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (first row, ids as bytes) of blocks of rows."""
        for first in range(0, len(self), IDS_A_LOOK):
            last = min(first + IDS_A_LOOK, len(self))
            block = self.bytes[int(self.ends[first - 1]) + 1 if first else 0 : int(self.ends[last - 1])]
            try:
                block.decode()
            except UnicodeDecodeError:
                self.at(range(first, last))  # raises an error that names the line
            yield first, block.split(b"\n")

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:  # -> int64 [N]
        """Return the row of each id, -1 for one that is not there."""
        import numpy as np

        rows = np.full(len(ids), -1, np.int64)
        for first in range(0, len(ids), IDS_A_LOOK):
            part = [text_id.encode("utf-8", "surrogatepass") for text_id in ids[first : first + IDS_A_LOOK]]
            rows[first : first + IDS_A_LOOK] = self.find(part)
        return rows

    def row_of(self, document_id: str) -> int | None:
        """Return the row of an id, or None."""
        import numpy as np

        wanted = document_id.encode("utf-8", "surrogatepass")
        hashes, order = self._by_hash
        at = int(np.searchsorted(hashes, hash(wanted)))
        while at < len(hashes) and hashes[at] == hash(wanted):
            row = int(order[at])
            if self.bytes[int(self.ends[row - 1]) + 1 if row else 0 : int(self.ends[row])] == wanted:
                return row
            at += 1
        return None

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Return the ids that are not there, in order."""
        rows = self.rows_of(ids)
        return [text_id for text_id, row in zip(ids, rows.tolist(), strict=True) if row < 0]

    @cached_property
    def _by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of all ids in order, and the row of each. They are of this process."""
        import numpy as np

        hashes = np.empty(len(self), np.int64)
        for first, block in self.blocks():
            hashes[first : first + len(block)] = np.fromiter(map(hash, block), np.int64, len(block))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def find(self, ids: list[bytes]) -> np.ndarray:  # -> int64 [N]
        """Return the row of each id, as `rows_of`; ids are bytes, a block of them."""
        import numpy as np

        hashes, order = self._by_hash
        keys = np.fromiter(map(hash, ids), np.int64, len(ids))
        rows = np.full(len(ids), -1, np.int64)
        left = np.argsort(keys)  # near each other in memory too
        at = np.empty(len(ids), np.int64)
        at[left] = np.searchsorted(hashes, keys[left])
        while len(left):  # once round but where two ids have the same hash
            left = left[at[left] < len(hashes)]
            left = left[hashes[at[left]] == keys[left]]
            found = order[at[left]]
            starts = np.where(found > 0, self.ends[found - 1] + 1, 0)
            there = map(self.bytes.__getitem__, map(slice, starts.tolist(), self.ends[found].tolist()))
            same = np.fromiter(map(eq, map(ids.__getitem__, left.tolist()), there), bool, len(left))
            rows[left[same]] = found[same]
            left = left[~same]
            at[left] += 1
        return rows
