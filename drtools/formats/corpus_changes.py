"""What has changed in a corpus since an earlier one: new, changed, deleted and missing documents.

A document is missing if no deletion asked for it to go. That is how a share that is not mounted, or a corpus that was
cut short, shows. Of each document 16 bytes are kept in memory.
"""

import hashlib
import math
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from drtools import reporting
from drtools.errors import GateRefused, param
from drtools.formats.corpora import DOCUMENT_ID_KEYS, known_key
from drtools.formats.json_lines import checked_id, parse_object
from drtools.formats.lines import read_lines, shown
from drtools.units import counted

COUNTS = ("new", "changed", "deleted", "missing")


class Watched:
    """A stream of a corpus under way, whose documents are noted as their lines are written, one at a time."""

    def __init__(self, stream: BinaryIO, name: str, id_key: str | None) -> None:
        self.stream, self.documents = stream, Documents(name, id_key)

    def write(self, line: bytes) -> int:
        """Write a line with one document, or an empty one."""
        self.documents.add(line)
        return self.stream.write(line)


class Documents:
    """Digests of the ids and lines of a corpus, in its order."""

    def __init__(self, path: str, id_key: str | None) -> None:
        self.path, self.id_key, self.lines = path, id_key, 0
        self.ids, self.contents = array("Q"), array("Q")

    def add(self, line: bytes) -> None:
        """Note the document of a line; an empty line has none."""
        self.lines += 1
        content = line.removeprefix(BOM_UTF8).strip()
        if content:
            self.ids.append(digest_of(id_in(content, self.id_key, self.path, self.lines).encode()))
            self.contents.append(digest_of(content))

    @classmethod
    def of(cls, path: str, id_key: str | None) -> "Documents":
        """Read a corpus of JSON lines."""
        documents = cls(path, id_key)
        for _, line in read_lines(path):
            documents.add(line)
        return documents


def digest_of(content: bytes) -> int:
    """Return the digest of an id or a line: 64 bits, of which two of 100 million share one once in 3,000 corpora."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def id_in(line: bytes, id_key: str | None, path: str, number: int) -> str:
    """Return the id of a document's line; InputError with file:line if it has none."""
    record = parse_object(line, path, number)
    key = id_key if id_key is not None and id_key in record else known_key(record, DOCUMENT_ID_KEYS, path, number)
    return checked_id(record[key], path, number)


def counts_since(earlier: Documents, now: Documents, deletions: Iterable[str]) -> tuple[dict[str, int], set[int]]:
    """Count what has changed; return the counts, and the digests of the missing ids.

    A document of the earlier corpus that is not there now is deleted if its id is one of `deletions`, else missing.
    """
    import numpy as np

    ids_then, ids_now = (np.frombuffer(documents.ids, np.uint64) for documents in (earlier, now))
    lines_then, lines_now = (np.frombuffer(documents.contents, np.uint64) for documents in (earlier, now))
    both, then, today = np.intersect1d(ids_then, ids_now, return_indices=True)
    gone = np.setdiff1d(ids_then, both)
    asked = np.fromiter((digest_of(document.encode()) for document in deletions), np.uint64)
    missing = np.setdiff1d(gone, asked)
    changed = int((lines_then[then] != lines_now[today]).sum())
    counts = (len(ids_now) - len(both), changed, len(gone) - len(missing), len(missing))
    return dict(zip(COUNTS, counts, strict=True)), set(missing.tolist())


def check_missing(earlier: Documents, counts: dict[str, int], missing: set[int], allowed: float) -> None:
    """Report how many documents of an earlier corpus are missing; GateRefused for more than a share `allowed`."""
    if not missing:
        return
    count, share = len(earlier.ids), counts["missing"] / len(earlier.ids)
    words = (
        f"{counts['missing']:,} of its {counted(count, 'document')} are missing now (for instance "
        f"{_one_of(earlier, missing)}), and no delivery deletes them"
    )
    if not share <= allowed:
        raise GateRefused(
            f"{shown(earlier.path)}: {words}; a share of at most {allowed:g} may be missing, so nothing was written; "
            f"deliver them again, or pass {param('allow_dropped')} {math.ceil(share * 100) / 100:g} if this is meant"
        )
    reporting.notice(counts["missing"], f"{shown(earlier.path)}: {words}")


def _one_of(earlier: Documents, missing: set[int]) -> str:
    """Return the id of a missing document, which is read again, as only its digest is kept."""
    for number, line in read_lines(earlier.path):
        if line.strip() and digest_of((found := id_in(line, earlier.id_key, earlier.path, number)).encode()) in missing:
            return repr(found)
    return "one that has changed meanwhile"


def line_of_changes(path: str | Path, counts: dict[str, int]) -> str:
    """Return what has changed since an earlier corpus as one line."""
    return f"since {path}: " + ", ".join(f"{counts[name]:,} {name}" for name in COUNTS)
