"""Cache of a teacher's scores: an SQLite file for each teacher, shared by all processes and tools.

Keys begin with the query, so that a query's pairs are side by side in the file: a page that is written holds many of
them. What was odd about a pair is saved with its score, so that counts of truncated and empty texts do not depend on
the cache.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from drtools.outputs.cache import cache_directory, connect, damaged, is_damage, make_folder, naming, note_unwritable
from drtools.outputs.cache_contents import SCORES
from drtools.outputs.cache_locks import alone, touch
from drtools.outputs.places import remember_places

QUERY_BYTES, KEY_BYTES = 8, 24
KEYS_A_READ = 500  # SQLite's least limit of parameters is 999
# a power cut may lose the last batches, never the file
SCHEMA = (
    "pragma journal_mode = wal; pragma synchronous = normal; "
    "create table if not exists scores (pair blob primary key, score real not null) without rowid; "
    # a separate table, so that older versions, which only know scores, can still write them
    "create table if not exists oddities (pair blob primary key, odd integer not null) without rowid;"
)
DAMAGED = "move this one file away, and the pairs of this teacher are scored again; nothing else is lost"


def pair_key(query: str, document: str, limit: int | None = None) -> bytes:
    """Return the key of a query's and a document's text, with the document's token limit if it is not the teacher's.

    Its first 8 bytes are the query's alone. The others are the key that versions before 0.2.0 kept.
    """
    lengths = f"{len(query)} {limit if limit is not None else ''}\0"  # marks the end of the query
    pair = hashlib.blake2b(f"{lengths}{query}{document}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=QUERY_BYTES).digest() + pair


class ScoreCache:
    """The float32 scores of one teacher by pair, on disk.

    `fingerprint` identifies everything but the pair that a score depends on. `teacher` is the teacher's folder or its
    name on the hub, for those who look into the cache.
    """

    def __init__(self, fingerprint: str, teacher: str | None = None) -> None:
        folder = make_folder(cache_directory() / SCORES)
        self.path = folder / f"{fingerprint}.sqlite"
        self._one = (
            threading.Lock()
        )  # while one thread's reading is open SQLite gives up another's writing at once, without its patience
        self._not_kept: dict[bytes, tuple[float, int]] = {}  # where the disk is full, or may not be written
        with self._opening(), naming(self.path, DAMAGED):
            self.connection = connect(self.path, SCHEMA)
            touch(self.path)
        if teacher:
            remember_places([(fingerprint, os.path.abspath(teacher) if os.path.isdir(teacher) else teacher)])

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Open the file while no other process does.

        SQLite's own patience does not hold while a new file is given its journal.
        """
        with ExitStack() as held:
            with suppress(OSError):  # a folder that may not be written, where nobody makes a new file
                held.enter_context(alone(self.path.with_suffix(".lock")))
            yield

    def __len__(self) -> int:
        with naming(self.path, DAMAGED):
            return int(self.connection.execute("select count(*) from scores").fetchone()[0])

    def known(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are there."""
        found = self._found("select pair, score from scores", keys)
        odd = next((score for score in found.values() if not isinstance(score, float)), None)
        if odd is not None:
            raise damaged(self.path, f"found {odd!r} as a score", DAMAGED)
        return found | {key: self._not_kept[key][0] for key in keys if key in self._not_kept}

    def known_oddities(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the flags of pairs, as in `PairTokens.odd`; drtools 0.1.0 kept scores without it.

        Flags of a key with its query are kept only if there are some; a pair with a score and without flags has none.
        """
        try:
            found = self._found("select pair, odd from oddities", keys)
        except sqlite3.OperationalError as error:  # a file of 0.1.0 that may not be written
            if "no such table" not in str(error):
                raise
            found = {}
        plain = [key for key in keys if key not in found and len(key) == KEY_BYTES]
        found.update({key: 0 for key, _ in self._read("select pair, 0 from scores", plain)})
        return found | {key: self._not_kept[key][1] for key in keys if key in self._not_kept}

    def _found(self, select: str, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the values of keys, or of the keys that earlier versions kept."""
        found = dict(self._read(select, keys))
        former = {key[QUERY_BYTES:]: key for key in keys if key not in found and len(key) == KEY_BYTES}
        return found | {former[key]: value for key, value in self._read(select, list(former))}

    def _read(self, select: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
        for first in range(0, len(keys), KEYS_A_READ):
            part = keys[first : first + KEYS_A_READ]
            with self._one, naming(self.path, DAMAGED):
                found = self.connection.execute(f"{select} where pair in ({','.join('?' * len(part))})", part)
                rows = found.fetchall()
            yield from rows

    def keep(self, scores: Iterable[tuple[bytes, float]], oddities: Iterable[tuple[bytes, int]] = ()) -> None:
        """Store scores by key, and the flags of their pairs; where that cannot be, for this process alone."""
        scores, odd = list(scores), dict(oddities)
        try:
            self._write(scores, list(odd.items()))
        except sqlite3.Error as error:
            if is_damage(error):
                raise damaged(self.path, error, DAMAGED) from None
            note_unwritable(self.path, error)
            self._not_kept.update({key: (score, odd.get(key, 0)) for key, score in scores})

    def _write(self, scores: list[tuple[bytes, float]], oddities: list[tuple[bytes, int]]) -> None:
        """Write in one transaction."""
        with self._one:
            self.connection.execute("begin immediate")
            try:
                self.connection.executemany("insert or replace into scores values (?, ?)", scores)
                kept = [(key, odd) for key, odd in oddities if odd or len(key) != KEY_BYTES]
                self.connection.executemany("insert or replace into oddities values (?, ?)", kept)
                self.connection.execute("commit")
            except BaseException:  # a stop too, after which the batches that had ended are kept
                if self.connection.in_transaction:  # SQLite itself ends it where the disk is full
                    self.connection.execute("rollback")
                raise
