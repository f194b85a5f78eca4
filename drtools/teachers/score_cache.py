"""Cache of a teacher's scores: an SQLite file for each teacher, shared by all processes and tools.

Scores are saved as soon as their batch is done, so that a stopped scoring continues and no pair is scored twice. What
was odd about a pair is saved with its score, so that counts of truncated and empty texts do not depend on the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from drtools.outputs.cache import cache_directory

KEYS_A_READ = 500  # SQLite's least limit of parameters is 999
PATIENCE_SECONDS = 60  # for another process that is writing


def pair_key(query: str, document: str, limit: int | None = None) -> bytes:
    """Return the key of a query's and a document's text, with the document's token limit if it is not the teacher's."""
    lengths = f"{len(query)} {limit if limit is not None else ''}\0"  # says where the query ends
    return hashlib.blake2b(f"{lengths}{query}{document}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


class ScoreCache:
    """The float32 scores of one teacher by pair, on disk.

    `fingerprint` identifies everything but the pair that a score depends on.
    """

    def __init__(self, fingerprint: str) -> None:
        folder = cache_directory() / "scores"
        folder.mkdir(exist_ok=True)
        self.path = folder / f"{fingerprint}.sqlite"
        self.connection = sqlite3.connect(
            self.path, timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._one = (
            threading.Lock()
        )  # while one thread's reading is open SQLite gives up another's writing at once, without its patience
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(
                lock, fcntl.LOCK_EX
            )  # SQLite's own patience does not hold while a new file is given its journal
            # a power cut may lose the last batches, never the file
            self.connection.executescript(
                "pragma journal_mode = wal; pragma synchronous = normal; "
                "create table if not exists scores (pair blob primary key, score real not null) without rowid; "
                # a table of its own, so that a program that knows only of scores can still write them
                "create table if not exists oddities (pair blob primary key, odd integer not null) without rowid;"
            )

    def __len__(self) -> int:
        return int(self.connection.execute("select count(*) from scores").fetchone()[0])

    def known(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the cached scores among the keys."""
        return dict(self._read("select pair, score from scores", keys))

    def known_oddities(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the cached `PairTokens.odd` of pairs; drtools 0.1.0 saved scores without it."""
        return dict(self._read("select pair, odd from oddities", keys))

    def _read(self, select: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
        for first in range(0, len(keys), KEYS_A_READ):
            part = keys[first : first + KEYS_A_READ]
            with self._one:
                found = self.connection.execute(f"{select} where pair in ({','.join('?' * len(part))})", part)
                rows = found.fetchall()
            yield from rows

    def keep(self, scores: Iterable[tuple[bytes, float]], oddities: Iterable[tuple[bytes, int]] = ()) -> None:
        """Save scores by key, and what was odd about their pairs, in one transaction."""
        with self._one:
            self.connection.execute("begin immediate")
            try:
                self.connection.executemany("insert or replace into scores values (?, ?)", scores)
                self.connection.executemany("insert or replace into oddities values (?, ?)", oddities)
                self.connection.execute("commit")
            except BaseException:  # a stop too, after which the batches that had ended are kept
                self.connection.execute("rollback")
                raise
