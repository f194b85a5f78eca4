"""Exit statuses, and the one-line message of each way in which a tool ends."""

import errno
import signal
import sqlite3
from collections.abc import Sequence

from drtools import reporting, signals
from drtools.cli import console, streams
from drtools.errors import AlreadyDone, GateRefused, InputError, Terminated, WorldError

DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large")  # in errors that are not an OSError


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
        return signals.status_of(error)
    if isinstance(error, BrokenPipeError):
        streams.leave_output()
        return 128 + signal.SIGPIPE
    if isinstance(error, OSError):
        if error.filename is None:  # a stream, usually standard output
            streams.leave_output()
        if error.filename is None and error.errno == errno.EBADF:
            console.error("standard input or output is closed; use files, or open it")
            return 1
        where = f"{error.filename}: " if error.filename else ""
        console.error(
            f"{where}{error.strerror or error}; nothing finished was changed, the same command again continues"
        )
        return 1
    if isinstance(error, WorldError | sqlite3.Error):
        console.error(error.message if isinstance(error, WorldError) else str(error))
        return 1
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "can't allocate memory" in str(error):
        console.error(
            f"out of memory ({str(error).splitlines()[0] if str(error) else 'no details'}); try a smaller "
            "--batch-tokens, or --gradient-caching in trainings"
        )
        return 1
    full = next((words for words in DISK_FULL if words in str(error)), None)
    if full:  # messages of safetensors, torch and Java
        console.error(f"{full}: nothing finished was changed; once there is room, the same command again continues")
        return 1
    raise error
