"""The cache: a folder on this machine for files that can be made again, and its SQLite files.

A command does not fail when the cache cannot be written. It reads what is there, keeps nothing new, and reports this
once. Reading a damaged file is an error that names the file.
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
    """Return the path of the cache: $DRTOOLS_CACHE, else drtools under $XDG_CACHE_HOME or ~/.cache.

    A user without a home folder, such as a numeric user id without an account, gets a private folder in the folder for
    temporary files.
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
    """Return the cache, and make it if it is missing and can be made."""
    folder = cache_path()
    if folder.parent == Path(tempfile.gettempdir()) and folder.name == f"drtools-{os.getuid()}":
        _make_own(folder)
    return make_folder(folder)


def _make_own(folder: Path) -> None:
    """Make a folder that only this user can write. Raises InputError if another user made it."""
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
    """Return a folder of the cache, and make it if it is missing and can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise WorldError(f"{folder}: found a file, expected a folder of the cache; move it away") from None
        note_unwritable(folder, error)
    return folder


def reason(error: Exception) -> str:
    """Return why something cannot be written, without the file's name."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def note_unwritable(path: Path, error: Exception) -> None:
    """Report once that nothing new is kept in the cache."""
    reporting.say_once(
        f"note: {path}: the cache cannot be written ({reason(error)}); what it holds is read, but nothing new is kept",
        "cache",
    )


def note_damaged(path: Path, error: Exception) -> None:
    """Report that a damaged file is not used, where making it again costs little."""
    reporting.say_once(
        f"note: {path}: a file of the cache is damaged ({error}) and is not used; remove it, and it is made again",
        str(path),
    )


@contextmanager
def forgiving(path: Path) -> Iterator[None]:
    """Continue without a file of the cache that is damaged or cannot be written, and report it."""
    try:
        yield
    except sqlite3.Error as error:
        note_damaged(path, error) if is_damage(error) else note_unwritable(path, error)


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error comes from the content of the file, not from the disk, permissions or another process."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in (
        *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH),
        *(sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_INTERNAL),
    )


class DamagedCache(WorldError):
    """Raised for a damaged file of the cache."""


def damaged(path: Path, error: object, remedy: str) -> DamagedCache:
    """Return the error for a damaged file of the cache."""
    return DamagedCache(f"{path}: a file of the cache is damaged ({error}); {remedy}")


@contextmanager
def naming(path: Path, remedy: str) -> Iterator[None]:
    """Add the file and the remedy to SQLite errors that are raised inside."""
    try:
        yield
    except sqlite3.Error as error:
        raise (damaged(path, error, remedy) if is_damage(error) else WorldError(f"{path}: {error}")) from None


def connect(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file of the cache with its tables.

    A file that cannot be written is opened for reading. If it cannot be made, a new database in memory is returned.
    Raises sqlite3.Error if the file is damaged.
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
        for how in ("mode=ro", "mode=ro&immutable=1"):  # the first needs to write next to a file with a journal
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
