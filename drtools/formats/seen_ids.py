"""Ids that were met, to find one that occurs twice, in 8 to 16 bytes for each."""

from __future__ import annotations

from array import array

LEAST = 1 << 10
FULLEST = 0.6  # more than this share of the places in use make looking one up slow


class SeenIds:
    """The hashes of ids in a table of places, each at the first free place from that of its hash."""

    def __init__(self) -> None:
        self.table = array("q", bytes(8 * LEAST))
        self.count = 0

    def add(self, text_id: str) -> bool:
        """Remember an id; return whether one with the same hash was there, which is nearly always the same id."""
        key = hash(text_id) or 1  # 0 is a free place
        table, mask = self.table, len(self.table) - 1
        at = key & mask
        while there := table[at]:
            if there == key:
                return True
            at = (at + 1) & mask
        table[at] = key
        self.count += 1
        if self.count > FULLEST * len(table):
            self._grow()
        return False

    def _grow(self) -> None:
        old, self.table = self.table, array("q", bytes(16 * len(self.table)))
        table, mask = self.table, len(self.table) - 1
        for key in old:
            if key:
                at = key & mask
                while table[at]:
                    at = (at + 1) & mask
                table[at] = key
