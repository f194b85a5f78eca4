"""Locks of the cache's files: one process makes or removes a file, and what is open is seen to be in use."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drtools.outputs.disk import lock_file


def hold(path: Path) -> int:
    """Open a file of the cache as one that is in use from now on; return the descriptor, which the caller closes.

    Its time is that of now, since many mounts keep no time of reading. FileNotFoundError if it was removed meanwhile.
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
    """Note that a file was used now, where that can be written."""
    with suppress(OSError):
        os.utime(path)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds a lock file, and hold it. OSError where it cannot be written."""
    while True:
        stream = open(lock, "w")  # noqa: SIM115 closed below
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if os.fstat(stream.fileno()).st_nlink:  # else it was removed while this process waited for it
                yield
                return
        finally:
            stream.close()


@contextmanager
def at_once(path: Path) -> Iterator[bool]:
    """Hold a file that is there for this process alone; yield whether that succeeded without waiting."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield True
        return
    try:
        yield lock_file(descriptor)
    finally:
        os.close(descriptor)
