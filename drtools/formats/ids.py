"""Ids of the rows of vectors or of an index, in a file next to them."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from drtools import units
from drtools.errors import InputError

if TYPE_CHECKING:
    import numpy as np

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

    @cached_property
    def _by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        hashes = np.fromiter((_hash(self[row]) for row in range(len(self))), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def row_of(self, document_id: str) -> int | None:
        """Return the row of an id, or None."""
        import numpy as np

        hashes, order = self._by_hash
        at = int(np.searchsorted(hashes, _hash(document_id)))
        while at < len(hashes) and hashes[at] == _hash(document_id):
            if self[int(order[at])] == document_id:
                return int(order[at])
            at += 1
        return None


def _hash(document_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8).digest(), "little", signed=True)
