"""Open an output: continue what an earlier process began, start afresh, or refuse in one line."""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drtools import reporting
from drtools.errors import AlreadyDone, InputError, WorldError, param
from drtools.outputs import manifest
from drtools.outputs.disk import is_standard_output, write_json
from drtools.outputs.request import begun_request, differences, request_in, same
from drtools.outputs.specs import OutputSpec, Request
from drtools.outputs.state_file import STATE, read_state
from drtools.outputs.work import BEGUN, DATA, LOCK, OF_A_FILE, REQUEST, FileWork, Work
from drtools.ranks import rank


def _check_finished(work: Work) -> None:
    """Raise AlreadyDone if the target is this request's output, InputError if it may not be replaced."""
    if not work.target.exists():
        return
    then = request_in(manifest.beside(work.target))
    if then is None:
        if work.target.is_dir() or not work.overwrite:
            advice = (
                "move it away, or choose another -o"
                if work.target.is_dir()
                else f"move it away, or {param('overwrite')}"
            )
            raise InputError("exists and is not a finished output of drtools", where=work.target, remedy=advice)
        return
    if work.overwrite:
        return
    if not same(then, work.request):
        if work.renew:
            return
        raise InputError(
            f"made by another request ({differences(then, work.request)})",
            where=work.target,
            remedy=f"choose another -o, or {param('overwrite')}",
        )
    if work.path.exists() and _may_be_dropped(work):  # a process died after it had given the output its name
        with suppress(WorldError):
            lock = _take_lock(work)
            shutil.rmtree(work.path, ignore_errors=True)
            os.close(lock)
    os.utime(work.target)  # Make compares times: this output is as new as the question
    raise AlreadyDone(f"{work.target}: already done, by this same request")


def _take_lock(work: Work) -> int:
    work.path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.stat(work.path / LOCK).st_ino == os.fstat(descriptor).st_ino
    except (BlockingIOError, FileNotFoundError):
        held = False
    if not held:
        os.close(descriptor)
        raise WorldError(f"{work.path}: another process is at work on this output; wait for it, or stop it")
    return descriptor


def _lacks_only_its_name(work: Work) -> bool:
    """Return whether an earlier process finished this very request and died before it could rename the folder."""
    then = request_in(work.path / manifest.NAME)
    return then is not None and not work.overwrite and same(then, work.request)


def _open_partial(work: Work) -> None:
    """Continue an earlier process's work if its request was the same, or start afresh."""
    written = work.path / REQUEST
    if _lacks_only_its_name(work):
        work.give_name()
        work.done = True
        raise AlreadyDone(f"{work.target}: already done, by this same request")
    if written.exists() and not work.overwrite:
        then = begun_request(written)
        is_same = same(then, work.request)
        if not is_same and not work.renew:
            raise InputError(
                f"begun by another request ({differences(then, work.request)})",
                where=work.path,
                remedy=f"repeat that one, or {param('overwrite')} to start afresh",
            )
        if is_same and (work.path / STATE).exists():
            work.state, work.seconds_before, work.offset = read_state(work.path)
            reporting.say(f"{work.target}: continuing the work of an earlier process")
    if not work.state:
        others = [path for path in work.path.iterdir() if path.name != LOCK]
        if (
            {path.name for path in others} - BEGUN
            and not written.exists()
            and not request_in(work.path / manifest.NAME)
        ):
            raise InputError(
                "exists and is not the work of drtools", where=work.path, remedy="move it away, or choose another -o"
            )
        for path in others:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(written, work.request)
    work.working.mkdir(exist_ok=True)


@contextmanager
def open_folder(output: OutputSpec) -> Iterator[Work]:
    """Open an output folder: the tool writes into `work.path` and calls `work.finish`."""
    if rank():
        yield _follow(output)
        return
    work = Work(Path(output.output), output.request, output.overwrite, output.renew)
    with _under_way(work):
        yield work


@contextmanager
def open_file(output: OutputSpec) -> Iterator[FileWork]:
    """Open an output file: the tool writes to `work.stream` and calls `work.finish`.

    `-` is standard output, as it comes.
    """
    if is_standard_output(output.output):
        yield _Stdout(output.request)
        return
    work = FileWork(Path(output.output), output.request, output.overwrite, output.renew)
    if work.target.is_dir():
        raise InputError(
            "a folder was found where a file is to be written", where=work.target, remedy="choose another -o"
        )
    _finish_naming(work)
    with _under_way(work):
        work.stream = open(work.path / DATA, "r+b" if work.state else "wb")  # noqa: SIM115 closed below
        work.stream.seek(work.offset)
        work.stream.truncate()
        try:
            yield work
        finally:
            if not work.stream.closed:
                work.stream.close()


def _finish_naming(work: Work) -> None:
    """Give a file its name that an earlier process had finished but for that, whoever asked for it."""
    if _is_a_finished_file(work.path):
        lock = _take_lock(work)
        try:
            if _is_a_finished_file(work.path):
                work.give_file_its_name()
        finally:
            os.close(lock)


def _is_a_finished_file(partial: Path) -> bool:
    """Return whether a folder holds a file's work, done and its manifest written.

    Not a folder's, nor anything of others.
    """
    return request_in(partial / manifest.NAME) is not None and {path.name for path in partial.iterdir()} <= OF_A_FILE


@contextmanager
def _under_way(work: Work) -> Iterator[None]:
    _check_finished(work)
    lock = _take_lock(work)
    try:
        _check_finished(work)  # the process that held the lock may have finished it meanwhile
        _open_partial(work)
        yield
    finally:
        if not work.done and not work.state and not (work.path / STATE).exists() and _may_be_dropped(work):
            shutil.rmtree(work.path, ignore_errors=True)
        os.close(lock)
    assert work.done, "a tool left its output without finish()"


def _may_be_dropped(work: Work) -> bool:
    """Return whether nothing is lost with the folder.

    Not another request's unfinished work, nothing that lacks only its name, nothing of others.
    """
    written = work.path / REQUEST
    if not work.path.exists() or (work.path / manifest.NAME).exists():
        return False
    if written.exists():
        return same(begun_request(written), work.request)
    return {path.name for path in work.path.iterdir()} <= BEGUN


def _follow(output: OutputSpec) -> Work:
    """Return the work of the first of several processes, for another of them, which only reads it."""
    work = _Followed(Path(output.output), output.request, output.overwrite, output.renew)
    if _lacks_only_its_name(work):  # asked before the next line, as the first process may be about to rename it
        raise AlreadyDone(f"{work.target}: already done, by this same request")
    _check_finished(work)
    return work


class _Followed(Work):
    """Another process's work: it alone saves and finishes."""

    def save(self, **state: object) -> None:
        self.state = state

    def finish(self, **fields: object) -> None:
        self.done = True


class _Stdout(FileWork):
    """Standard output: nothing to continue, no manifest."""

    def __init__(self, request: Request) -> None:
        super().__init__(Path("-"), request)
        reporting.leave_terminal_to_data()
        self.stream = sys.stdout.buffer

    def save(self, **state: object) -> None:
        self.stream.flush()

    def finish(self, **fields: object) -> None:
        self.stream.flush()
        self.done = True
