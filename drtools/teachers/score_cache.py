"""Scores of pairs that a teacher gave before.

An SQLite file a teacher in the cache, shared by every process and every tool.

What is scored is there as soon as its batch is done, so that a stopped scoring goes on and no pair is scored twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from drtools.outputs.cache import cache_directory, connect, damaged, is_damage, make_folder, naming, note_unwritable

KEYS_A_READ = 500  # SQLite's least limit of parameters is 999
# a power cut may lose the last batches, never the file
SCHEMA = (
    "pragma journal_mode = wal; pragma synchronous = normal; "
    "create table if not exists scores (pair blob primary key, score real not null) without rowid;"
)
DAMAGED = "move this one file away, and the pairs of this teacher are scored again; nothing else is lost"


def pair_key(query: str, document: str, limit: int | None = None) -> bytes:
    """Return the key of a query's and a document's text, and of the document's limit if it is not the teacher's own."""
    lengths = f"{len(query)} {limit if limit is not None else ''}\0"  # says where the query ends
    return hashlib.blake2b(f"{lengths}{query}{document}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


class ScoreCache:
    """The float32 scores of one teacher by pair, on disk.

    `fingerprint` is of everything that changes a score but the pair.
    """

    def __init__(self, fingerprint: str) -> None:
        folder = make_folder(cache_directory() / "scores")
        self.path = folder / f"{fingerprint}.sqlite"
        self._one = (
            threading.Lock()
        )  # while one thread's reading is open SQLite gives up another's writing at once, without its patience
        self._not_kept: dict[bytes, float] = {}  # where the disk is full, or may not be written
        with self._opening(), naming(self.path, DAMAGED):
            self.connection = connect(self.path, SCHEMA)

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Open the file while no other process does.

        SQLite's own patience does not hold while a new file is given its journal.
        """
        try:
            lock = open(self.path.with_suffix(".lock"), "w")  # noqa: SIM115 closed below
        except OSError:  # a folder that may not be written, where nobody makes a new file
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def __len__(self) -> int:
        with naming(self.path, DAMAGED):
            return self.connection.execute("select count(*) from scores").fetchone()[0]

    def known(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are there."""
        found = {key: self._not_kept[key] for key in keys if key in self._not_kept}
        for first in range(0, len(keys), KEYS_A_READ):
            part = keys[first : first + KEYS_A_READ]
            with self._one, naming(self.path, DAMAGED):
                found.update(
                    self.connection.execute(
                        f"select pair, score from scores where pair in ({','.join('?' * len(part))})", part
                    )
                )
        odd = next((score for score in found.values() if not isinstance(score, float)), None)
        if odd is not None:
            raise damaged(self.path, f"found {odd!r} as a score", DAMAGED)
        return found

    def keep(self, scores: Iterable[tuple[bytes, float]]) -> None:
        """Keep scores by key, in one transaction; where that cannot be, for this process alone."""
        scores = list(scores)
        try:
            self._write(scores)
        except sqlite3.Error as error:
            if is_damage(error):
                raise damaged(self.path, error, DAMAGED) from None
            note_unwritable(self.path, error)
            self._not_kept.update(scores)

    def _write(self, scores: list[tuple[bytes, float]]) -> None:
        with self._one:
            self.connection.execute("begin immediate")
            try:
                self.connection.executemany("insert or replace into scores values (?, ?)", scores)
                self.connection.execute("commit")
            except BaseException:  # a stop too, after which the batches that had ended are kept
                if self.connection.in_transaction:  # SQLite itself ends it where the disk is full
                    self.connection.execute("rollback")
                raise
