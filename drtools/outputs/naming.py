"""How an output gets its name, and how a later process recovers from each state in which a process can die.

Unfinished work is in the folder OUT.partial. The lock OUT.partial.lock is next to it, so that it can be held until the
last rename is done. It is also the journal of a replacement. These are the steps for a folder (F) and for a file with
its manifest next to it (f):

    step                                          a process that dies after it leaves   the next process, any request
    1    take the lock                            an empty or our own lock              takes it
    2    make OUT.partial                         an empty folder                       takes it
    3    write request.json                       a request                             continues, or refuses it
    4    write content, save state.json           content that the state names          removes all but that
    5    write manifest.json                      finished work                         goes on with step 6
    6    remove working/, state.json              the same                              the same
    7 F  remove request.json, note OUT in the     finished work, its journal            the same
         journal
    8 F  exchange OUT.partial and OUT, or rename  OUT is new, OUT.partial is the old    removes what the journal notes
    8 f  remove the old manifest, rename data,    OUT is new, its manifest lacks        goes on with step 8
         rename the manifest, remove request.json
    9    remove OUT.partial, then the lock        the lock                              removes it

A folder is cleared in an order that keeps its owner known: state.json first, request.json or manifest.json last. A
folder without a request of drtools is never removed.
"""

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from drtools.errors import InputError, WorldError
from drtools.outputs import manifest
from drtools.outputs.contents import LOCK, REQUEST, WORKING
from drtools.outputs.disk import exchange, flush_to_disk, is_gzip_name, lock_file
from drtools.outputs.request import request_in
from drtools.outputs.specs import Request
from drtools.outputs.state_file import STATE

DATA, PACKED = "data", "data.gz"
BEGUN = {LOCK, f"{REQUEST}.new"}  # left by a process that dies at once; older versions had their lock there
OF_A_FILE = {STATE, REQUEST, LOCK, DATA, PACKED, WORKING, manifest.NAME}
OWNER, JOURNAL_BYTES = "drtools", 4095  # the first key of a journal, which names its owner


class Place:
    """The paths of an output: OUT, OUT.partial, and the lock next to it, which is also a journal."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.partial = target.with_name(f"{target.name}.partial")
        self.lock = target.with_name(f"{target.name}.partial.lock")
        self.aside = target.with_name(f"{target.name}.partial.old")  # the old output, if names cannot be exchanged
        self.descriptor: int | None = None

    def take_lock(self) -> None:
        """Take the lock. Raises WorldError if another process holds it, InputError for another program's file."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        while self.descriptor is None:
            try:
                descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                    raise not_ours(self.lock) from None
                raise
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise not_ours(self.lock)
                if not lock_file(descriptor):
                    raise self._busy()
                if self._is_named(descriptor):  # otherwise the process that held it has removed it meanwhile
                    if _journal(descriptor) is None:
                        raise not_ours(self.lock)
                    self._refuse_older_version()
                    self.descriptor = descriptor
            finally:
                if self.descriptor is None:
                    os.close(descriptor)
        self.note(pid=os.getpid())

    def _refuse_older_version(self) -> None:
        """Raise WorldError if a process of an older version, which has its lock in OUT.partial, is at work."""
        with suppress(FileNotFoundError, NotADirectoryError), open(self.partial / LOCK) as lock:
            if not lock_file(lock.fileno()):
                raise self._busy()

    def _busy(self) -> WorldError:
        return WorldError(f"{self.partial}: another process is writing this output; wait for it, or stop it")

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.lstat(self.lock), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the lock while it is still held, so that no other process can take it first.

        It is kept if its journal notes something unfinished.
        """
        if self.descriptor is None:
            return
        noted = self.noted()
        if not noted.get("replaces") and not (noted.get("finished") and self.partial.exists()):
            self.lock.unlink(missing_ok=True)
        os.close(self.descriptor)
        self.descriptor = None

    def note(self, **facts: object) -> None:
        """Write what is about to happen into the journal, and wait until it is on the disk."""
        assert self.descriptor is not None, "only the process that holds the lock writes the journal"
        kept = {name: fact for name, fact in {**self.noted(), **facts}.items() if fact is not None}
        os.pwrite(
            self.descriptor,
            orjson.dumps(kept | {OWNER: 1}, option=orjson.OPT_SORT_KEYS).ljust(JOURNAL_BYTES) + b"\n",
            0,
        )
        os.fsync(self.descriptor)

    def noted(self) -> dict[str, Any]:
        """Return the content of the journal."""
        assert self.descriptor is not None, "the journal belongs to the process that holds the lock"
        return _journal(self.descriptor) or {}

    def check_partial(self) -> None:
        """Raise InputError if OUT.partial cannot be unfinished work because it is a link or a file."""
        if self.partial.is_symlink() or (self.partial.exists() and not self.partial.is_dir()):
            raise not_ours(self.partial)

    def finished_request(self) -> Request | None:
        """Return the request of work that is finished but does not have its name yet."""
        return request_in(self.partial / manifest.NAME)

    def recover(self) -> None:
        """Complete the last steps of a process that died: remove what it had replaced, and name finished work."""
        self.check_partial()
        self._drop_replaced()
        if self.finished_request() is None:
            return
        inside = {path.name for path in self.partial.iterdir()}
        if REQUEST in inside or self.noted().get("finished"):
            is_file = inside & {DATA, PACKED} and inside <= OF_A_FILE | {f"{manifest.NAME}.new"}
            if self.noted().get("finished", "file" if is_file else "folder") == "file":
                self.name_file()
            else:
                self.name_folder()

    def name_folder(self) -> None:
        """Give a finished folder its name: steps 6 to 9."""
        self.note(finished="folder")
        _remove(self.partial / STATE, self.partial / WORKING, self.partial / LOCK, self.partial / REQUEST)
        flush_to_disk(self.partial)
        if not self.target.exists():
            os.rename(self.partial, self.target)
        else:
            if self.aside.exists() or self.aside.is_symlink():
                raise not_ours(self.aside)
            self.note(replaces=_inode(self.target))
            if not exchange(self.partial, self.target):
                os.rename(self.target, self.aside)
                os.rename(self.partial, self.target)
        flush_to_disk(self.target.parent)
        self._drop_replaced()

    def _drop_replaced(self) -> None:
        """Remove the old output that the journal notes, once the new one has its name."""
        replaced = self.noted().get("replaces")
        if replaced and _inode(self.target) not in (None, replaced):
            for old in (self.partial, self.aside):
                if _inode(old) == replaced:
                    clear(old)
            self.note(replaces=None)

    def name_file(self) -> None:
        """Give a finished file and its manifest their names: steps 6 to 9."""
        self.note(finished="file")
        beside = manifest.beside(self.target)
        data = self.partial / (PACKED if is_gzip_name(self.target) else DATA)
        _remove(self.partial / STATE, self.partial / WORKING)
        if data.exists():
            beside.unlink(missing_ok=True)
            os.replace(data, self.target)
        os.replace(self.partial / manifest.NAME, beside)
        flush_to_disk(self.target.parent)
        clear(self.partial)


def not_ours(path: Path) -> InputError:
    """Return the error for a file or folder of another program at the place of an output."""
    return InputError("exists and was not made by drtools", where=path, remedy="move it away, or choose another -o")


def _journal(descriptor: int) -> dict[str, Any] | None:
    """Return the content of a journal, {} if it is empty, None if drtools did not write it."""
    text = os.pread(descriptor, JOURNAL_BYTES + 1, 0).strip(b"\0 \n")
    try:
        said = orjson.loads(text or b"{}")
    except ValueError:
        # a journal that was cut short while it was written starts like a whole one
        return {} if text.startswith(f'{{"{OWNER}'.encode()) else None
    if not isinstance(said, dict) or (said and OWNER not in said):
        return None
    return {name: fact for name, fact in said.items() if isinstance(fact, str | int)}  # others are damage


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def clear(folder: Path, keep_request: bool = False) -> None:
    """Remove a folder of drtools, or all its content except its request.

    The file that shows its owner is removed last, so that a later process can continue: the request of unfinished work,
    else the manifest. A manifest next to a request is removed first, since the rest is no longer a finished output.
    """
    _remove(folder / STATE)
    last = folder / manifest.NAME
    if (folder / REQUEST).exists():
        _remove(last)
        last = folder / REQUEST
    _remove(*(path for path in folder.iterdir() if path != last))
    if not keep_request:
        _remove(last)
        folder.rmdir()
