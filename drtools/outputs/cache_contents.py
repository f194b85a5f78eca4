"""List what is in the cache, and remove what has not been used for a long time.

Only texts, examples, scores and copies of models are removed. Their files are known by their names and folders. A file
that a process has open is kept.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from drtools.outputs.cache_locks import at_once
from drtools.outputs.fingerprints import FINGERPRINTS, known_paths
from drtools.outputs.places import MEMORY, places_of

STORES, SCORES, MODELS, EXAMPLES = "stores", "scores", "models", "examples"  # folders of the cache
FACTS = "facts.json"  # of examples; a process that has them open holds this file
SECONDS_A_DAY = 86_400
NAMES = {
    "texts": (STORES, re.compile(r"((?P<content>[0-9a-f]{32})-\d+q?)\.(sqlite|partial|lock)")),
    "scores": (SCORES, re.compile(r"((?P<content>[0-9a-f]{32})-[a-z0-9]+)\.(sqlite|sqlite-wal|sqlite-shm|lock)")),
    "models": (MODELS, re.compile(r"((?P<content>[0-9a-f]{32})-\d+)(\.partial|\.lock)?")),  # folders and locks
    "examples": (EXAMPLES, re.compile(r"((?P<content>[0-9a-f]{32})-\d+)(\.partial|\.lock)?")),  # the same
    "fingerprints": ("", re.compile(rf"({re.escape(FINGERPRINTS)})(-journal|-wal|-shm)?")),
    "places": ("", re.compile(rf"({re.escape(MEMORY)})(-journal|-wal|-shm)?")),
}
REMOVED = ("texts", "scores", "models", "examples")  # what is removed when it is asked for
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
Outcome = Literal["removed", "in use", "scores"]


class Entry(NamedTuple):
    """A part of the cache: its files, their size in bytes, and the time of last use (seconds since the epoch).

    `belongs_to` has the paths at which the corpus or the teacher was found before. Paths that still exist come first.
    """

    kind: str  # a name of NAMES, or "others"
    name: str
    belongs_to: list[str]
    files: list[Path]
    size: int
    used: float


def cache_entries(root: Path) -> list[Entry]:
    """Return the entries of the cache by time of last use, oldest first. Files of other programs are one entry."""
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in _files_below(root):
        groups[_whose(path, root)].append(path)
    entries = (_entry(kind, name, sorted(files)) for (kind, name), files in groups.items())
    return sorted((entry for entry in entries if entry), key=lambda entry: (entry.used, entry.name))


def _files_below(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root, onerror=_raise):
        yield from (Path(folder) / name for name in names)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # removed meanwhile, or there is no cache yet
        raise error


def _whose(path: Path, root: Path) -> tuple[str, str]:
    """Return the kind of a file, and the name that it shares with the files of the same entry."""
    if not path.is_symlink():
        *inner, last = path.relative_to(root).parts
        if inner[:1] in ([MODELS], [EXAMPLES]) and len(inner) > 1:  # a file in the folder of a model or of examples
            inner, last = inner[:1], inner[1]
        for kind, (folder, pattern) in NAMES.items():
            found = pattern.fullmatch(last) if inner == ([folder] if folder else []) else None
            if found:
                return kind, found[1]
    return "others", ""


def _entry(kind: str, name: str, files: list[Path]) -> Entry | None:
    states = []
    for path in files:
        with suppress(FileNotFoundError):
            states.append(path.lstat())
    if not states or (kind in REMOVED and {path.suffix for path in files} == {".lock"}):
        return None
    used = max(max(state.st_mtime, state.st_atime) for state in states)
    return Entry(kind, name, _owners(kind, name), files, sum(state.st_size for state in states), used)


def _owners(kind: str, name: str) -> list[str]:
    if kind not in REMOVED:
        return []
    names = [str(place) for place in places_of(name)]
    found = NAMES[kind][1].fullmatch(f"{name}.sqlite")
    if kind == "texts" and found:
        names += [str(path) for path in known_paths(found["content"])]
    return sorted(dict.fromkeys(names), key=lambda path: (not os.path.exists(path), path))


def prune(
    entries: Iterable[Entry], now: float, days: float | None, max_size: int | None, scores: bool, dry_run: bool
) -> Iterator[tuple[Entry, Outcome]]:
    """Remove what was not used for `days` days, then the least recently used until `max_size` bytes are not exceeded.

    Yields each entry with its outcome: it was removed (or would be, with `dry_run`), or it was kept because it is in
    use, or because it holds a teacher's scores. Scores take long to compute again and are removed only with `scores`.
    """
    entries = list(entries)
    total = sum(entry.size for entry in entries)
    for entry in sorted(entries, key=lambda entry: entry.used):
        is_old = days is not None and now - entry.used > days * SECONDS_A_DAY
        is_too_much = max_size is not None and total > max_size
        if entry.kind not in REMOVED or not (is_old or is_too_much):
            continue
        if entry.kind == "scores" and not scores:
            yield entry, "scores"
        elif _remove(entry, dry_run):
            total -= entry.size
            yield entry, "removed"
        else:
            yield entry, "in use"


def _remove(entry: Entry, dry_run: bool) -> bool:
    """Remove the files of an entry unless a process has one of them open. Returns whether none was open."""
    lock = next((path for path in entry.files if path.suffix == ".lock"), None)
    with ExitStack() as held:
        # a process that makes or opens a file holds its lock file; one that has texts open also locks the texts
        if lock and not held.enter_context(at_once(lock)):
            return False
        for path in entry.files:
            if entry.kind == "examples" and path.name == FACTS and not held.enter_context(at_once(path)):
                return False
            if path.suffix != ".sqlite":
                continue
            if entry.kind == "texts" and not held.enter_context(at_once(path)):
                return False
            if entry.kind == "scores" and _is_open_elsewhere(path):
                return False
        if not dry_run:
            for path in sorted(entry.files, key=lambda path: path == lock):
                path.unlink(missing_ok=True)
                if entry.kind in ("models", "examples") and path != lock:
                    _remove_empty(path.parent)
    return True


def _remove_empty(folder: Path) -> None:
    """Remove a folder of a model or of examples, and the one above it, if nothing is left in them."""
    with suppress(OSError):
        while folder.name not in (MODELS, EXAMPLES):
            folder.rmdir()
            folder = folder.parent


def _is_open_elsewhere(path: Path) -> bool:
    """Return whether another connection has a file of scores open: SQLite then refuses an exclusive lock."""
    before = path.stat()
    try:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            connection.executescript("pragma locking_mode = exclusive; begin immediate; rollback")
    except sqlite3.Error as error:  # nobody uses a damaged file
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in BUSY
    finally:
        with suppress(OSError):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # this check is not a use
    return False
