"""Open an output: continue the work of an earlier process, start afresh, or refuse in one line."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drtools import reporting
from drtools.errors import AlreadyDone, DryRunDone, InputError, param
from drtools.outputs import contents, manifest
from drtools.outputs.checksums import Span
from drtools.outputs.contents import REQUEST
from drtools.outputs.disk import is_standard_output, write_json
from drtools.outputs.naming import BEGUN, DATA, clear, not_ours
from drtools.outputs.request import begun_request, differences, request_in, same
from drtools.outputs.specs import OutputSpec, Request
from drtools.outputs.state_file import STATE, read_state
from drtools.outputs.work import FileWork, Work
from drtools.process_ranks import rank, world_size

TEMPORARY = (".tmp", ".new")  # prefixes and suffixes of file names while a library writes them


@contextmanager
def _open_nothing(output: OutputSpec) -> Iterator[FileWork]:
    """Open a temporary folder in place of an output, for a tool that ends by raising DryRunDone."""
    if world_size() > 1:
        raise InputError("several processes were started", where=param("dry_run"), remedy="run it in one process")
    with TemporaryDirectory(prefix="drtools-") as folder, suppress(DryRunDone):
        work = FileWork(Path(folder) / "output", output.request)
        work.dry_run = True
        work.path.mkdir()
        work.working.mkdir()
        with open(work.path / DATA, "wb") as work.stream:
            yield work


@contextmanager
def open_folder(output: OutputSpec, dry_run: bool = False) -> Iterator[Work]:
    """Open an output folder. The tool writes into `work.path` and calls `work.finish`."""
    if dry_run:
        with _open_nothing(output) as nothing:
            yield nothing
        return
    if rank():
        yield _follow(output)
        return
    work = Work(Path(output.output), output.request, output.overwrite, output.renew)
    with _under_way(work):
        yield work


@contextmanager
def open_file(output: OutputSpec, dry_run: bool = False) -> Iterator[FileWork]:
    """Open an output file. The tool writes to `work.stream` and calls `work.finish`.

    With `-`, bytes go directly to standard output. A device or a pipe is written directly as well.
    """
    if dry_run:
        with _open_nothing(output) as nothing:
            yield nothing
        return
    if is_standard_output(output.output):
        reporting.leave_terminal_to_data()
        yield _Stream(output.request, "-", sys.stdout.buffer)
        return
    path = Path(output.output)
    if path.is_dir():
        raise InputError("found a folder, but the output is a file", where=path, remedy="choose another -o")
    if path.exists() and not path.is_file():
        with open(path, "wb") as stream:
            yield _Stream(output.request, output.output, stream)
        return
    work = FileWork(path, output.request, output.overwrite, output.renew)
    with _under_way(work):
        work.stream = open(work.path / DATA, "r+b" if work.state else "wb")  # noqa: SIM115 closed below
        work.stream.seek(work.offset)
        work.stream.truncate()
        try:
            yield work
        finally:
            if not work.stream.closed:
                work.stream.close()


@contextmanager
def _under_way(work: Work) -> Iterator[None]:
    place = work.place
    if work.target.exists() and not (work.target.is_file() or work.target.is_dir()):
        raise InputError("found a device or a pipe", where=work.target, expected="the name of a folder to write")
    place.check_partial()
    if not place.partial.exists() and not place.lock.exists():
        _check_finished(work)  # works in a folder without write permission too
    place.take_lock()
    try:
        place.recover()
        _check_finished(work)
        _open_partial(work)
        yield
    finally:
        if not work.done and not work.state and _is_begun(work):
            clear(place.partial)
        place.release()
    assert work.done, "a tool left its output without finish()"


def _check_finished(work: Work) -> None:
    """Raise AlreadyDone if the target is the output of this request, InputError if it may not be replaced."""
    if not work.target.exists():
        _check_beside(work)
        return
    beside = manifest.beside(work.target)
    then = request_in(beside)
    if then is None:
        if work.target.is_dir() or not work.overwrite:
            advice = (
                "move it away, or choose another -o"
                if work.target.is_dir()
                else f"move it away, or {param('overwrite')}"
            )
            raise InputError("exists and is not a finished output of drtools", where=work.target, remedy=advice)
        _check_beside(work)
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
    remedy = f"use {param('overwrite')} to make it anew"
    manifest.check_whole(work.target, manifest.read_manifest(beside, remedy), remedy)
    if work.place.descriptor is not None and _is_begun(work):  # a process died after it had named the output
        clear(work.path)
    with suppress(PermissionError):
        os.utime(work.target)  # make compares times: the output is up to date now
    raise AlreadyDone(f"{work.target}: already done, by this same request")


def _check_beside(work: Work) -> None:
    """Raise InputError if the manifest would overwrite another program's file."""
    beside = manifest.beside(work.target)
    if isinstance(work, FileWork) and beside.exists() and request_in(beside) is None:
        raise not_ours(beside)


def _open_partial(work: Work) -> None:
    """Continue the work of an earlier process if its request was the same, otherwise start afresh."""
    partial, written = work.path, work.path / REQUEST
    partial.mkdir(exist_ok=True)
    _refuse_others(work)
    work.place.note(finished=None)
    if written.exists() and not work.overwrite:
        then = begun_request(written)
        is_same = same(then, work.request)
        if not is_same and not work.renew:
            raise InputError(
                f"begun by another request ({differences(then, work.request)})",
                where=partial,
                remedy=f"repeat that one, or {param('overwrite')} to start afresh",
            )
        if is_same and (partial / STATE).exists():
            _take_up(work)
    if not work.state:
        clear(partial, keep_request=True)
    write_json(written, work.request)
    work.working.mkdir(exist_ok=True)


def _refuse_others(work: Work) -> None:
    """Raise InputError if OUT.partial is not unfinished work but a finished output or another program's folder."""
    then = work.place.finished_request()
    if then is not None:
        if same(then, work.request) and not work.overwrite:
            work.place.name_folder()
            work.done = True
            raise AlreadyDone(f"{work.target}: already done, by this same request")
        raise InputError(
            "a finished output has the name that unfinished work needs",
            where=work.path,
            remedy="rename it, or choose another -o",
        )
    if not (work.path / REQUEST).exists() and {path.name for path in work.path.iterdir()} - BEGUN:
        raise not_ours(work.path)


def _take_up(work: Work) -> None:
    """Continue from the last saved state of an earlier process. What it wrote after that is removed."""
    state, work.seconds_before, work.offset, named, checksums = read_state(work.path)
    if named is None:  # an older version recorded no sizes
        named = {
            name: work.offset if name == DATA else 0
            for name in contents.sizes_of(work.path)
            if not Path(name).name.startswith(TEMPORARY) and not name.endswith(TEMPORARY)
        }
    contents.keep_named(work.path, named)
    work.checksums.compare({name: each for name, each in checksums.items() if name != STATE})
    work.state = state
    reporting.say(f"{work.target}: continuing the work of an earlier process")


def _is_begun(work: Work) -> bool:
    """Return whether OUT.partial holds nothing that is worth keeping.

    This excludes a saved state, finished work without its name, another request's work, and other programs' files.
    """
    written = work.path / REQUEST
    if not work.path.is_dir() or (work.path / manifest.NAME).exists():
        return False
    if written.exists():
        return same(begun_request(written), work.request) and (work.done or not (work.path / STATE).exists())
    return {path.name for path in work.path.iterdir()} <= BEGUN


def _follow(output: OutputSpec) -> Work:
    """Return the work of rank 0 for another rank, which only reads it."""
    work = _Followed(Path(output.output), output.request, output.overwrite, output.renew)
    then = work.place.finished_request()
    if then is not None and not work.overwrite and same(then, work.request):
        # checked before the next line, as rank 0 may be about to rename it
        raise AlreadyDone(f"{work.target}: already done, by this same request")
    _check_finished(work)
    return work


class _Followed(Work):
    """The work of rank 0, seen from another rank, where saving and finishing do nothing."""

    def save(self, spans: Mapping[str, Span] | None = None, /, **state: object) -> None:
        self.state = state

    def finish(self, identity: object = None, **fields: object) -> None:
        self.done = True


class _Stream(FileWork):
    """Standard output, a device or a pipe. It cannot be continued and has no manifest."""

    def __init__(self, request: Request, name: str, stream: Any) -> None:
        super().__init__(Path(name), request)
        self.stream = stream

    def save(self, spans: Mapping[str, Span] | None = None, /, **state: object) -> None:
        self.stream.flush()

    def finish(self, identity: object = None, **fields: object) -> None:
        self.stream.flush()
        self.done = True
