"""Runs that are read query by query: of a large file, only where each query's lines are is kept in memory."""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from drtools.formats.lines import LONGEST_LINE, local, open_bytes
from drtools.formats.trec import BLOCK_BYTES, rank, read_run
from drtools.formats.trec_blocks import split_block

if TYPE_CHECKING:
    import numpy as np

    from drtools.formats.packed_texts import PackedTexts

IN_MEMORY_BYTES = 1 << 28  # of the file of a run


class StoredRun(Mapping[str, dict[str, float]]):
    """A run on the disk, {query id: {document id: score}} in ranked order; queries are in the file's order.

    Takes 24 bytes and the id for each query.
    """

    def __init__(self, stream: IO[bytes], ids: PackedTexts, starts: np.ndarray) -> None:
        import numpy as np

        self.stream, self.ids, self.starts = stream, ids, starts
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        self.order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self.order]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, query_id: object) -> bool:
        return isinstance(query_id, str) and self._row_of(query_id) is not None

    def _row_of(self, query_id: str) -> int | None:
        at = int(self.hashes.searchsorted(hash(query_id)))
        while at < len(self.hashes) and self.hashes[at] == hash(query_id):
            if self.ids[int(self.order[at])] == query_id:
                return int(self.order[at])
            at += 1
        return None

    def __getitem__(self, query_id: str) -> dict[str, float]:
        row = self._row_of(query_id)
        if row is None:
            raise KeyError(query_id)
        self.stream.seek(int(self.starts[row]))
        lines = self.stream.read(int(self.starts[row + 1] - self.starts[row])).splitlines()
        columns = (line.split() for line in lines)  # of bytes, at ASCII white space alone
        return rank({document.decode(): float(score) for _, _, document, _, score, _ in columns})


def open_run(path: str | Path) -> Mapping[str, dict[str, float]]:
    """Open a run as `read_run` reads it. A large one stays on the disk if its lines are plain and sorted by query."""
    path = local(str(path))
    if Path(path).stat().st_size < IN_MEMORY_BYTES:
        return read_run(path)
    return _stored(path) or read_run(path)


def _stored(path: str) -> StoredRun | None:
    """Check a run and find where its queries are; None for one with anything unusual, which is read as a whole."""
    import numpy as np

    from drtools.formats.packed_texts import PackedTexts

    stream: IO[bytes] = tempfile.TemporaryFile(prefix="drtools-run-") if _is_packed(path) else open(path, "rb")  # noqa: SIM115
    ids, places, starts, offset = bytearray(), array("q", [0]), array("q"), 0
    query_id, documents = "", set[str]()
    with open_bytes(path) as source:
        while block := source.read(BLOCK_BYTES) + source.readline(LONGEST_LINE + 1):
            if stream.name != path:
                stream.write(block)
            try:
                split = None if len(block) > LONGEST_LINE else split_block(block, [2, 4])
                spans, (names, written) = split or ([], [[], []])
                if split is None or math.isnan(sum(map(float, written))):
                    return None
            except ValueError:  # a number, or UTF-8, that cannot be read
                return None
            lines = np.append(0, np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1)
            for query, first, last in spans:
                if query != query_id or not starts:
                    query_id, documents = query, set()
                    ids += query.encode()
                    places.append(len(ids))
                    starts.append(offset + int(lines[first]))
                count = len(documents) + last - first
                documents.update(names[first:last])
                if len(documents) != count:
                    return None
            offset += len(block)
    starts.append(offset)
    texts = PackedTexts(np.frombuffer(bytes(ids), np.uint8), np.frombuffer(places, np.int64))
    stream.flush()
    run = StoredRun(stream, texts, np.frombuffer(starts, np.int64))
    if (run.hashes[1:] == run.hashes[:-1]).any():  # a query's lines are in two places
        return None
    return run


def _is_packed(path: str) -> bool:
    with open(path, "rb") as plain, open_bytes(path) as opened:
        return plain.read(64) != opened.read(64)
