"""Exit statuses, and the one-line message of each way in which a tool ends."""

import os
import signal
import sqlite3
from collections.abc import Sequence

from drtools import reporting
from drtools.cli import console
from drtools.errors import AlreadyDone, GateRefused, InputError, Terminated, WorldError
from drtools.outputs.cache import cache_path

DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large")  # of errors that are no OSError


def exit_status(error: BaseException, arguments: Sequence[str] = ()) -> int:
    """Print in one line why the tool ends, and return its exit status; raise unknown errors again."""
    if isinstance(error, AlreadyDone):
        reporting.say(error.message)
        return 0
    if isinstance(error, InputError):
        console.error(error.message)
        return 2
    if isinstance(error, GateRefused):
        console.error(error.message)
        return 3
    if isinstance(error, KeyboardInterrupt | Terminated):
        again = (
            "the same command with --renew in place of --overwrite"
            if "--overwrite" in arguments
            else "the same command again"
        )
        console.error(f"stopped; {again} continues what can be continued")
        return 130 if isinstance(error, KeyboardInterrupt) else 143
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes standard output once more at its end
        return 128 + signal.SIGPIPE
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        console.error(
            f"{where}{error.strerror or error}; nothing finished was changed, the same command again continues"
        )
        return 1
    if isinstance(error, WorldError | sqlite3.OperationalError):
        console.error(error.message if isinstance(error, WorldError) else str(error))
        return 1
    if isinstance(error, sqlite3.DatabaseError):
        console.error(f"a file of the cache is damaged ({error}); remove {cache_path()}, what it holds is made again")
        return 1
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "can't allocate memory" in str(error):
        console.error(
            f"out of memory ({str(error).splitlines()[0] if str(error) else 'no details'}); try a smaller "
            "--batch-tokens, in a training --gradient-caching"
        )
        return 1
    full = next((words for words in DISK_FULL if words in str(error)), None)
    if full:  # as safetensors, torch and Java tell it
        console.error(f"{full}: nothing finished was changed; once there is room, the same command again continues")
        return 1
    raise error
