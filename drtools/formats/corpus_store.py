"""Texts by id: a corpus as an SQLite file in the cache, or in a published version.

The file is built once for each content, and every process opens it read-only. A version has the same file under a name
of its own.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from drtools import reporting
from drtools.errors import InputError, WorldError
from drtools.formats.corpora import (
    DOCUMENTS_EXPECTED,
    QUERIES_EXPECTED,
    Document,
    each_query,
    note_unused_columns,
    read_corpus,
    twice,
)
from drtools.formats.ids import Ids
from drtools.formats.lines import local, shown
from drtools.outputs.cache import (
    DamagedCache,
    cache_directory,
    damaged,
    is_damage,
    make_folder,
    note_unwritable,
    reason,
)
from drtools.outputs.cache_contents import STORES
from drtools.outputs.cache_locks import alone, hold
from drtools.outputs.disk import flush_to_disk, open_to_others
from drtools.outputs.fingerprints import OPEN_FILES, file_fingerprint, is_nameless
from drtools.outputs.places import remember_places

if TYPE_CHECKING:
    import numpy as np

ROWS_A_READ = 4096
IDS_A_READ = 500  # SQLite's least limit of parameters is 999
IDS_A_COPY = 1 << 16
FEWEST_IDS = 1000  # to ask for before all are copied
FACTS = ("documents", "empty", "characters")
SQLITE = b"SQLite format 3\0"  # how its files begin, and no corpus
VERSION = 4  # of the tables and of what is read into them; another version is another file


class Reading(NamedTuple):
    """How a kind of file is read into a store. `mark` is a part of the name of the store."""

    mark: str
    documents: Callable[[Path], Iterator[tuple[int, Document]]]
    note: Callable[[Path], None]
    what: str
    plural: str
    expected: str


def _query_documents(path: Path) -> Iterator[tuple[int, Document]]:
    return ((number, Document(query_id, "", text)) for number, query_id, text in each_query(path))


CORPUS = Reading("", read_corpus, note_unused_columns, "document", "documents", DOCUMENTS_EXPECTED)
QUERIES = Reading("q", _query_documents, lambda path: None, "query", "queries", QUERIES_EXPECTED)


class CorpusStore:
    """A corpus on disk: rows are numbered from 0 in the file's order. Memory does not grow with the corpus."""

    def __init__(self, path: Path, corpus: str, fingerprint: str | None = None) -> None:
        self.corpus = corpus
        self.fingerprint = fingerprint  # of the corpus; None if the store was opened by its own name
        self.path = path
        weakref.finalize(self, os.close, hold(path))  # in use as long as this object is there
        self.connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        self._asked = 0
        self._ids: Ids | None = None
        facts = dict(self._read("select name, value from facts"))
        if sorted(facts) != sorted(FACTS) or not all(isinstance(value, int) for value in facts.values()):
            raise self._damaged(f"found {facts} in it")
        self.count: int = facts["documents"]
        self.empty = facts["empty"]
        self.characters = facts["characters"]

    def _read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; WorldError with the file's name if it is damaged."""
        try:
            return self.connection.execute(query, values).fetchall()
        except UnicodeDecodeError as error:
            raise self._damaged(error) from None
        except sqlite3.Error as error:
            raise self._damaged(error) if is_damage(error) else WorldError(f"{self.path}: {error}") from None

    def _damaged(self, error: object) -> WorldError:
        if self.fingerprint is None:
            return WorldError(
                f"{self.path}: not the texts of a published version, or damaged ({error}); remove this one file, and "
                "texts are read from the corpus"
            )
        return damaged(self.path, error, f"remove this one file, and it is made again of {shown(self.corpus)}")

    def _one(self, query: str, values: Sequence[object]) -> tuple[Any, ...]:
        """Return the one row that a query has in a store that is whole."""
        found = self._read(query, values)
        if not found:
            raise self._damaged(f"no row {values[0]}")
        return found[0]

    def __len__(self) -> int:
        return self.count

    def __contains__(self, document_id: object) -> bool:
        return bool(self._read("select 1 from documents where id = ?", (document_id,)))

    def __iter__(self) -> Iterator[str]:
        """Yield the ids in the file's order."""
        return (document.id for document in self.rows())

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Document]:
        """Yield the documents of rows start to stop (without stop)."""
        stop = self.count if stop is None else min(stop, self.count)
        for first in range(start, stop, ROWS_A_READ):
            last = min(first + ROWS_A_READ, stop)
            found = self._read(
                "select id, title, text from documents where row >= ? and row < ? order by row", (first, last)
            )
            if len(found) != last - first:
                raise self._damaged(f"rows {first} to {last} are {len(found)}")
            yield from map(Document._make, found)

    def ids_at(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return the ids of rows. Once many were asked for, all are memory-mapped, so that each takes a microsecond."""
        if self._is_asked_for(len(rows)):
            return self._mapped_ids().at(rows)
        return [self._one("select id from documents where row = ?", (int(row),))[0] for row in rows]

    def _is_asked_for(self, count: int) -> bool:
        """Count ids that are looked up; return whether they are so many that mapping all saves time."""
        self._asked += count
        return self._asked > max(FEWEST_IDS, self.count // 4)

    def forget_ids(self) -> None:
        """Give back the memory of mapped ids, 24 bytes each, until many are looked up again."""
        self._ids, self._asked = None, 0

    def _mapped_ids(self) -> Ids:
        """Return all ids, memory-mapped from a copy that is gone with this process."""
        if self._ids is not None:
            return self._ids
        with tempfile.TemporaryFile(prefix="drtools-ids-") as copy:
            for first in range(0, self.count, IDS_A_COPY):
                some = "select id from documents where row between ? and ? order by row"
                found = self._read(some, (first, first + IDS_A_COPY - 1))
                copy.write("".join(f"{text_id}\n" for (text_id,) in found).encode())
            copy.flush()
            ids = Ids(Path(f"{OPEN_FILES}{copy.fileno()}"))
        if len(ids) != self.count:
            raise self._damaged(f"{len(ids)} rows of {self.count}")
        self._ids = ids
        return ids

    def rows_of(self, document_ids: Sequence[str]) -> list[int | None]:
        """Return the row of each id, None for one that is not in the corpus."""
        if self._is_asked_for(len(document_ids)):
            return [None if row < 0 else row for row in self._mapped_ids().rows_of(document_ids).tolist()]
        known: dict[str, int] = {}
        for first in range(0, len(document_ids), IDS_A_READ):
            part = document_ids[first : first + IDS_A_READ]
            known.update(self._read(f"select id, row from documents where id in ({','.join('?' * len(part))})", part))
        return [known.get(document_id) for document_id in document_ids]

    def at(self, row: int) -> Document:
        """Return the document of a row."""
        return Document._make(self._one("select id, title, text from documents where row = ?", (int(row),)))

    def get(self, document_id: str) -> Document | None:
        """Return a document, or None if the corpus lacks it."""
        found = self._read("select id, title, text from documents where id = ?", (document_id,))
        return Document._make(found[0]) if found else None

    def texts_of(self, document_ids: Sequence[str]) -> dict[str, str]:
        """Return the texts, without titles, of those of the ids that are there."""
        found: dict[str, str] = {}
        for first in range(0, len(document_ids), IDS_A_READ):
            part = document_ids[first : first + IDS_A_READ]
            select = f"select id, text from documents where id in ({','.join('?' * len(part))})"
            found.update(self._read(select, part))
        return found

    def place(self, target: Path) -> None:
        """Give the store another name: a hard link where the file system allows it, else a copy.

        The link keeps the texts when the cache is emptied. Its mode is the one that the umask asks for.
        """
        try:
            os.link(self.path, target)
            open_to_others(target)
            return
        except OSError:  # another file system, another user's file, or a store that could not be kept in the cache
            target.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(target)) as copy:
                self.connection.backup(copy)
        except sqlite3.Error as error:
            raise WorldError(f"{target}: {error}") from None
        open_to_others(target)
        flush_to_disk(target)

    def missing(self, document_ids: Sequence[str]) -> list[str]:
        """Return the ids that are not in the corpus, in order."""
        return [
            document_id
            for document_id, row in zip(document_ids, self.rows_of(document_ids), strict=True)
            if row is None
        ]


def open_store(corpus: str) -> CorpusStore:
    """Open the store of a corpus file; build it if there is none for this content. A store is opened as it is."""
    source = Path(local(corpus))
    if source.is_dir():
        raise InputError("a folder was found where a corpus file was expected", where=shown(corpus))
    return CorpusStore(source, corpus) if _is_store(source) else _open(source, corpus, CORPUS)


def open_query_store(queries: str) -> CorpusStore:
    """Open the store of a file of queries, whose texts have no titles; build it if there is none for this content."""
    return _open(Path(local(queries)), queries, QUERIES)


def _open(source: Path, corpus: str, reading: Reading) -> CorpusStore:
    fingerprint = file_fingerprint(source)
    path = make_folder(cache_directory() / STORES) / f"{fingerprint}-{VERSION}{reading.mark}.sqlite"
    if path.exists():
        reading.note(source)
        try:
            return CorpusStore(path, corpus, fingerprint)
        except FileNotFoundError:  # removed between the two lines
            pass
        except DamagedCache as error:
            reporting.say(f"note: {error.message.partition(';')[0]}; it is made again")
            with suppress(OSError):
                path.unlink()
    try:
        _build_alone(source, corpus, path, fingerprint, reading)
    except (OSError, sqlite3.OperationalError) as error:
        if getattr(error, "filename", None) == str(source):
            raise
        try:
            store = _temporary_store(source, corpus, fingerprint, reading)
        except (OSError, sqlite3.OperationalError):
            raise WorldError(
                f"{path}: the cache cannot be written ({reason(error)}), nor can {tempfile.gettempdir()}; make room, "
                "or set DRTOOLS_CACHE to a folder with more"
            ) from None
        note_unwritable(path, error)
        return store
    return CorpusStore(path, corpus, fingerprint)


def _is_store(source: Path) -> bool:
    with open(source, "rb") as stream:
        return stream.read(len(SQLITE)) == SQLITE


def _build_alone(source: Path, corpus: str, path: Path, fingerprint: str, reading: Reading) -> None:
    """Build a store, unless another process does so meanwhile."""
    with alone(path.with_suffix(".lock")):
        if not path.exists():
            _build(source, corpus, path, fingerprint, reading)
            if not is_nameless(source):
                remember_places([(path.stem, str(source.resolve()))])
        else:
            reading.note(source)
    path.with_suffix(".lock").unlink(missing_ok=True)


def _temporary_store(source: Path, corpus: str, fingerprint: str, reading: Reading) -> CorpusStore:
    """Build a store among temporary files, for a cache that cannot be written; its file goes with this process."""
    with tempfile.TemporaryDirectory(prefix="drtools-store-") as folder:
        path = Path(folder) / "store.sqlite"
        _build(source, corpus, path, fingerprint, reading)
        return CorpusStore(path, corpus, fingerprint)  # which holds the file open, so that its name is needed no more


def _build(source: Path, corpus: str, path: Path, fingerprint: str, reading: Reading) -> None:
    temporary = path.with_suffix(".partial")
    temporary.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            _fill(connection, source, corpus, reading)
        if file_fingerprint(source) != fingerprint:
            raise WorldError(f"{shown(corpus)}: was changed while it was read; run the command again once it is whole")
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection, source: Path, corpus: str, reading: Reading) -> None:
    # nothing is lost by a crash: an unfinished file never gets its name
    connection.executescript("""
        pragma journal_mode = off; pragma synchronous = off; pragma locking_mode = exclusive;
        create table documents (row integer primary key, id text not null, title text not null, text text not null);
        create table facts (name text primary key, value integer);
    """)
    facts = dict.fromkeys(FACTS, 0)
    with reporting.progress(f"reading {shown(corpus)}", None, reading.plural) as progress:
        connection.execute("begin")
        connection.executemany(
            "insert into documents values (?, ?, ?, ?)", _counted(reading.documents(source), facts, progress)
        )
        connection.execute("commit")
    if not facts["documents"]:
        raise InputError(f"no {reading.plural}", where=shown(corpus), expected=reading.expected)
    try:
        connection.execute("create unique index documents_by_id on documents (id)")
    except sqlite3.IntegrityError:
        repeated = "select id from documents group by id having count(*) > 1 order by min(row) limit 1"
        (text_id,) = connection.execute(repeated).fetchone()
        lines = [number for number, document in reading.documents(source) if document.id == text_id]
        raise twice(reading.what, text_id, lines[0], lines[1], corpus) from None
    connection.executemany("insert into facts values (?, ?)", facts.items())


def _counted(
    documents: Iterator[tuple[int, Document]], facts: dict[str, int], progress: reporting.Progress
) -> Iterator[tuple[int, str, str, str]]:
    for row, (_, document) in enumerate(documents):
        yield row, *document
        facts["documents"] += 1
        facts["empty"] += not (document.title.strip() or document.text.strip())
        facts["characters"] += len(document.title) + len(document.text)
        if row % 1000 == 999:
            progress.advance(1000)
