"""Locks for the files of the cache: one process at a time makes or removes a file, and files in use are known."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drtools.outputs.disk import lock_file


def hold(path: Path) -> int:
    """Open a file of the cache and mark it as in use. Returns the descriptor, which the caller closes.

    The time of modification is set to now, since many mounts do not record the time of reading. Raises
    FileNotFoundError if the file was removed meanwhile.
    """
    descriptor = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not os.fstat(descriptor).st_nlink:
        os.close(descriptor)
        raise FileNotFoundError(2, "it was removed just now; run the command again", str(path))
    touch(path)
    return descriptor


def touch(path: Path) -> None:
    """Record that a file was used now, if the file system allows it."""
    with suppress(OSError):
        os.utime(path)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds a lock file, then hold it. Raises OSError if it cannot be written."""
    while True:
        stream = open(lock, "w")  # noqa: SIM115 closed below
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if os.fstat(stream.fileno()).st_nlink:  # otherwise it was removed while this process waited
                yield
                return
        finally:
            stream.close()


@contextmanager
def at_once(path: Path) -> Iterator[bool]:
    """Lock an existing file exclusively. Yields whether that succeeded without waiting."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield True
        return
    try:
        yield lock_file(descriptor)
    finally:
        os.close(descriptor)
