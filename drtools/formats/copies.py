"""Documents with the same text: copies of a positive, which must not become negatives under another id.

Texts are compared in plain form (formats/plain_text); a document's text is its title and its text, as encoders read
them. If only a vectors folder is available, texts are compared exactly, by their digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.formats.corpora import Document, document_text
from drtools.formats.ids import Ids
from drtools.formats.plain_text import plain_text
from drtools.formats.row_digests import DIGEST_BYTES, TEXTS, open_texts
from drtools.formats.vectors import IDS

if TYPE_CHECKING:
    import numpy as np

    from drtools.formats.corpus_store import CorpusStore

ROWS_A_READ = 65536


def copies_in_corpus(store: CorpusStore, rows: Iterable[int]) -> dict[int, list[int]]:
    """Return {row: the other rows with the same text} for the rows that have copies in the corpus."""
    wanted = {row: _digest(store.at(row)) for row in sorted(set(rows))}
    return _copies(wanted, map(_digest, store.rows()), len(store)) if wanted else {}


def copies_by_id(store: CorpusStore, documents: Sequence[str]) -> dict[str, list[str]]:
    """Return the same by ids; documents that are not in the corpus have no copies."""
    row_of = {
        row: document for document, row in zip(documents, store.rows_of(documents), strict=True) if row is not None
    }
    return {row_of[row]: store.ids_at(others) for row, others in copies_in_corpus(store, row_of).items()}


def copies_among_vectors(folder: Path, rows: Iterable[int]) -> dict[int, list[int]] | None:
    """Return exact copies among the rows of a vectors folder by its digests of texts; None if it has none."""
    if not (folder / TEXTS).exists():
        return None
    digests = open_texts(folder)["digest"]
    wanted = {row: digests[row].tobytes() for row in sorted(set(rows))}
    return _copies(wanted, _each(digests), len(digests)) if wanted else {}


def copies_by_digest(folder: Path, documents: Sequence[str]) -> dict[str, list[str]] | None:
    """Return the same by ids; None for a folder without vectors or digests."""
    if not (folder / TEXTS).exists():
        return None
    ids = Ids(folder / IDS)
    row_of = {row: document for document in documents if (row := ids.row_of(document)) is not None}
    found = copies_among_vectors(folder, row_of) or {}
    return {row_of[row]: [ids[other] for other in others] for row, others in found.items()}


def _digest(document: Document) -> bytes:
    text = plain_text(document_text(document.title, document.text))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _each(digests: np.ndarray) -> Iterator[bytes]:
    for start in range(0, len(digests), ROWS_A_READ):
        block = digests[start : start + ROWS_A_READ].tobytes()
        yield from (block[at : at + DIGEST_BYTES] for at in range(0, len(block), DIGEST_BYTES))


def _copies(wanted: dict[int, bytes], every: Iterable[bytes], count: int) -> dict[int, list[int]]:
    rows_of: dict[bytes, list[int]] = {digest: [] for digest in wanted.values()}
    with reporting.progress("looking for copies of positives", count, "documents") as progress:
        for row, digest in enumerate(every):
            if digest in rows_of:
                rows_of[digest].append(row)
            if row % ROWS_A_READ == ROWS_A_READ - 1:
                progress.advance(ROWS_A_READ)
    return {
        row: [other for other in rows_of[digest] if other != row]
        for row, digest in wanted.items()
        if len(rows_of[digest]) > 1
    }
