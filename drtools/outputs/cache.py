"""The folder on this machine where what can be made again is kept, and its SQLite files.

No command ends because the cache cannot be written: what is there is read, what is new is not kept, and a line says so
once. A damaged file is an error where it is read, which names this file and nothing else of the cache.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drtools import reporting
from drtools.errors import InputError, WorldError

PATIENCE_SECONDS = 60  # for another process that is writing


def cache_path() -> Path:
    """Return where what can be made again is kept: $DRTOOLS_CACHE, else drtools under $XDG_CACHE_HOME or ~/.cache.

    Without a home folder, as for a number that is no user's name, it is a folder of one's own among temporary files.
    """
    named = os.environ.get("DRTOOLS_CACHE")
    if named:
        return Path(named)
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "drtools"
    try:
        return Path.home() / ".cache" / "drtools"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"drtools-{os.getuid()}"


def cache_directory() -> Path:
    """Return that folder, made if it is not there and can be made."""
    folder = cache_path()
    if folder.parent == Path(tempfile.gettempdir()) and folder.name == f"drtools-{os.getuid()}":
        _make_own(folder)
    return make_folder(folder)


def _make_own(folder: Path) -> None:
    """Make a folder that nobody else can write; refuse one that somebody else made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InputError(
            "there is no home folder, and this place for the cache is another user's",
            where=folder,
            remedy="set DRTOOLS_CACHE to a folder of your own",
        )
    reporting.say_once(f"note: no home folder was found, so the cache is {folder}; DRTOOLS_CACHE sets another", "home")


def make_folder(folder: Path) -> Path:
    """Return a folder of the cache, made if it is not there and can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise WorldError(f"{folder}: a file stands where a folder of the cache is to be; move it away") from None
        note_unwritable(folder, error)
    return folder


def reason(error: Exception) -> str:
    """Return why something cannot be written, without its name."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def note_unwritable(path: Path, error: Exception) -> None:
    """Say, once, that nothing new is kept in the cache."""
    reporting.say_once(
        f"note: {path}: the cache cannot be written ({reason(error)}); what it holds is read, and nothing new is kept",
        "cache",
    )


def note_damaged(path: Path, error: Exception) -> None:
    """Say that a file of the cache is not used that is made again at no cost."""
    reporting.say_once(
        f"note: {path}: a file of the cache is damaged ({error}), and not used; remove it, and it is made again",
        str(path),
    )


@contextmanager
def forgiving(path: Path) -> Iterator[None]:
    """Go on without a file of the cache that is damaged or cannot be written, and say so."""
    try:
        yield
    except sqlite3.Error as error:
        note_damaged(path, error) if is_damage(error) else note_unwritable(path, error)


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error is of the file's content, and not of the disk, of rights or of another process."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in (
        *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH),
        *(sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_INTERNAL),
    )


class DamagedCache(WorldError):
    """A file of the cache is damaged."""


def damaged(path: Path, error: object, remedy: str) -> DamagedCache:
    """Return the error of a damaged file of the cache."""
    return DamagedCache(f"{path}: a file of the cache is damaged ({error}); {remedy}")


@contextmanager
def naming(path: Path, remedy: str) -> Iterator[None]:
    """Let errors of SQLite within name the file and the next move."""
    try:
        yield
    except sqlite3.Error as error:
        raise (damaged(path, error, remedy) if is_damage(error) else WorldError(f"{path}: {error}")) from None


def connect(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file of the cache with its tables.

    One that cannot be written is opened for reading, and one that cannot be made is a new one in memory. Raises
    sqlite3.Error if it is damaged.
    """
    try:
        connection = _opened(str(path), schema)
        if os.access(path, os.W_OK):
            return connection
        connection.close()
        raise PermissionError(None, "it may not be written", str(path))
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise
        note_unwritable(path, error)
    if path.is_file() and path.stat().st_size:
        for how in ("mode=ro", "mode=ro&immutable=1"):  # the former needs to write beside a file with a journal
            try:
                return _opened(f"{path.absolute().as_uri()}?{how}", "select 1 from sqlite_master")
            except sqlite3.Error as error:
                if is_damage(error):
                    raise
    return _opened(":memory:", schema)


def _opened(name: str, script: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name, uri=name.startswith("file:"), timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.executescript(script)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
