"""Texts by id: a corpus as an SQLite file in the cache.

The file is built once for each content, and every process opens it read-only.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from drtools import reporting
from drtools.errors import InputError, WorldError
from drtools.formats.corpora import Document, note_unused_columns, read_corpus
from drtools.formats.lines import local, shown
from drtools.outputs.cache import cache_directory
from drtools.outputs.fingerprints import file_fingerprint

ROWS_A_READ = 4096
IDS_A_READ = 500  # SQLite's least limit of parameters is 999
VERSION = 4  # of the tables and their content; each version has its own file


class CorpusStore:
    """A corpus on disk: rows are numbered from 0 in the file's order. Memory does not grow with the corpus."""

    def __init__(self, path: Path, corpus: str) -> None:
        self.corpus = corpus
        self.path = path
        self.connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        facts = dict(self.connection.execute("select name, value from facts"))
        self.count: int = facts["documents"]
        self.empty = facts["empty"]
        self.characters = facts["characters"]

    def __len__(self) -> int:
        return self.count

    def __contains__(self, document_id: object) -> bool:
        found = self.connection.execute("select 1 from documents where id = ?", (document_id,)).fetchone()
        return found is not None

    def __iter__(self) -> Iterator[str]:
        """Yield the ids in the file's order."""
        return (document_id for (document_id,) in self.connection.execute("select id from documents order by row"))

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Document]:
        """Yield the documents of rows start to stop (without stop)."""
        stop = self.count if stop is None else min(stop, self.count)
        for first in range(start, stop, ROWS_A_READ):
            last = min(first + ROWS_A_READ, stop)
            yield from map(
                Document._make,
                self.connection.execute(
                    "select id, title, text from documents where row >= ? and row < ? order by row", (first, last)
                ),
            )

    def ids_at(self, rows: Iterable[int]) -> list[str]:
        """Return the ids of rows."""
        one = "select id from documents where row = ?"
        return [self.connection.execute(one, (int(row),)).fetchone()[0] for row in rows]

    def rows_of(self, document_ids: Sequence[str]) -> list[int | None]:
        """Return the row of each id, None for one that is not in the corpus."""
        known: dict[str, int] = {}
        for first in range(0, len(document_ids), IDS_A_READ):
            part = document_ids[first : first + IDS_A_READ]
            known.update(
                self.connection.execute(
                    f"select id, row from documents where id in ({','.join('?' * len(part))})", part
                )
            )
        return [known.get(document_id) for document_id in document_ids]

    def at(self, row: int) -> Document:
        """Return the document of a row."""
        return Document._make(
            self.connection.execute("select id, title, text from documents where row = ?", (int(row),)).fetchone()
        )

    def get(self, document_id: str) -> Document | None:
        """Return a document, or None if it is not in the corpus."""
        found = self.connection.execute("select id, title, text from documents where id = ?", (document_id,)).fetchone()
        return Document._make(found) if found else None

    def missing(self, document_ids: Sequence[str]) -> list[str]:
        """Return the ids that are not in the corpus, in order."""
        return [
            document_id
            for document_id, row in zip(document_ids, self.rows_of(document_ids), strict=True)
            if row is None
        ]


def open_store(corpus: str) -> CorpusStore:
    """Open the store of a corpus file; build it if there is none for this content."""
    source = Path(local(corpus))
    if source.is_dir():
        raise InputError("a folder was found where a corpus file was expected", where=shown(corpus))
    folder = cache_directory() / "stores"
    folder.mkdir(exist_ok=True)
    fingerprint = file_fingerprint(source)
    path = folder / f"{fingerprint}-{VERSION}.sqlite"
    if not path.exists():
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _build(source, corpus, path, fingerprint)
        path.with_suffix(".lock").unlink(missing_ok=True)
    note_unused_columns(source)  # whether this process built the store, another one meanwhile, or an earlier one
    return CorpusStore(path, corpus)


def _build(source: Path, corpus: str, path: Path, fingerprint: str) -> None:
    temporary = path.with_suffix(".partial")
    temporary.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            _fill(connection, source, corpus)
        if file_fingerprint(source) != fingerprint:
            raise WorldError(f"{shown(corpus)}: was changed while it was read; run the command again once it is whole")
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection, source: Path, corpus: str) -> None:
    # nothing is lost by a crash: an unfinished file never gets its name
    connection.executescript("""
        pragma journal_mode = off; pragma synchronous = off; pragma locking_mode = exclusive;
        create table documents (row integer primary key, id text not null, title text not null, text text not null);
        create table facts (name text primary key, value integer);
    """)
    facts = {"documents": 0, "empty": 0, "characters": 0}
    with reporting.progress(f"reading {shown(corpus)}", None, "documents") as progress:
        connection.execute("begin")
        connection.executemany("insert into documents values (?, ?, ?, ?)", _counted(source, facts, progress))
        connection.execute("commit")
    if not facts["documents"]:
        raise InputError("no documents", where=shown(corpus), expected="JSONL with _id, title and text")
    try:
        connection.execute("create unique index documents_by_id on documents (id)")
    except sqlite3.IntegrityError:
        twice = "select id from documents group by id having count(*) > 1 order by min(row) limit 1"
        (document_id,) = connection.execute(twice).fetchone()
        lines = [number for number, document in read_corpus(source) if document.id == document_id]
        raise InputError(
            f"the document id {document_id!r} is also on line {lines[0]}; ids must be unique",
            where=f"{shown(corpus)}:{lines[1]}",
        ) from None
    connection.executemany("insert into facts values (?, ?)", facts.items())


def _counted(source: Path, facts: dict[str, int], progress: reporting.Progress) -> Iterator[tuple[int, str, str, str]]:
    for row, (_, document) in enumerate(read_corpus(source)):
        yield row, *document
        facts["documents"] += 1
        facts["empty"] += not (document.title.strip() or document.text.strip())
        facts["characters"] += len(document.title) + len(document.text)
        if row % 1000 == 999:
            progress.advance(1000)
