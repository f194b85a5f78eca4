"""Whole or not at all: work goes on in OUT.partial under a lock and is renamed to OUT when it is done.

The same command again: finished, says so; partial, continues; another request, refused by naming the difference, or
with `renew` replaced. A folder's manifest lies in it; a file's lies beside it as OUT.manifest.json.
"""

import datetime
import os
import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO

from drtools import __version__, reporting
from drtools.outputs import manifest
from drtools.outputs.disk import flush_to_disk, is_gzip_name, open_for_writing, write_json
from drtools.outputs.fingerprints import content_fingerprint, file_fingerprint
from drtools.outputs.places import PUBLISHED, without_places
from drtools.outputs.specs import Request
from drtools.outputs.state_file import STATE

REQUEST, LOCK, DATA, PACKED, WORKING = "request.json", "lock", "data", "data.gz", "working"
BEGUN = {LOCK, f"{REQUEST}.new"}  # what a process that dies at once leaves
OF_A_FILE = {STATE, REQUEST, LOCK, DATA, PACKED, WORKING, manifest.NAME}


class Work:
    """An output under way. `path` is its folder; `state` what an earlier process saved; `stream` takes a file's bytes.

    What lies under `working` serves continuing alone and never becomes part of the output.
    """

    def __init__(self, target: Path, request: Request, overwrite: bool = False, renew: bool = False) -> None:
        self.target = target.resolve() if target.is_symlink() else target  # what a link names is replaced, not the link
        self.request, self.overwrite, self.renew = request, overwrite, renew
        self.path = self.target.with_name(self.target.name + ".partial")
        self.working = self.path / WORKING
        self.state: dict[str, Any] = {}
        self.offset = 0  # bytes of a file that an earlier process has written
        self.stream: BinaryIO | None = None
        self.started = time.time()
        self.seconds_before = 0.0  # of earlier processes, up to what they last saved
        self.done = False

    def seconds(self) -> float:
        """Return how long the work has taken so far, that of earlier processes included."""
        return round(self.seconds_before + time.time() - self.started, 1)

    def save(self, **state: object) -> None:
        """Make what was written so far durable: a later process starts from `state` and loses nothing before it."""
        if self.stream is not None:
            self.stream.flush()
            os.fsync(self.stream.fileno())
            state["offset"] = self.stream.tell()
        self.state = state
        write_json(self.path / STATE, {**state, "worked_seconds": self.seconds()})

    def finish(self, **fields: object) -> None:
        """Write the manifest and give the output its name. `fields` (counts, fingerprints ...) go into the manifest."""
        reporting.check_strict()
        record: dict[str, Any] = {
            "tool": self.request["tool"],
            "version": __version__,
            "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "seconds": self.seconds(),
            "request": self.request,
            **fields,
            "notices": reporting.notices(),
        }
        if record.get("kind") in PUBLISHED:
            record = without_places(record)
        if self.stream is None:
            self._finish_folder(record)
        else:
            self.stream.close()
            self._finish_file(record)
        self.done = True

    def _finish_folder(self, record: dict[str, Any]) -> None:
        content = [path for path in self.path.rglob("*") if path.is_file() and not self._only_for_continuing(path)]
        for path in content:
            flush_to_disk(path)
        write_json(self.path / manifest.NAME, {**record, "fingerprint": content_fingerprint(self.path, content)})
        self.give_name()

    def _only_for_continuing(self, path: Path) -> bool:
        return path.relative_to(self.path).parts[0] in (STATE, REQUEST, LOCK, WORKING)

    def give_name(self) -> None:
        """Rename a folder whose manifest is written; a process that died just before this is finished by the next."""
        self._drop_what_serves_continuing()
        replaced = self.target.with_name(f"{self.target.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)  # a process died here, or a reader held a file open
        if replaced.exists() or replaced.is_symlink():
            replaced = self.target.with_name(f"{self.target.name}.replaced-{os.getpid()}")
        if self.target.exists():
            os.rename(self.target, replaced)
        os.rename(self.path, self.target)
        shutil.rmtree(replaced, ignore_errors=True)

    def _drop_what_serves_continuing(self) -> None:
        shutil.rmtree(self.working, ignore_errors=True)
        for name in (STATE, REQUEST, LOCK):
            (self.path / name).unlink(missing_ok=True)

    def _finish_file(self, record: dict[str, Any]) -> None:
        data = self.path / DATA
        if is_gzip_name(self.target):
            packed = self.path / PACKED
            with open(data, "rb") as plain, open_for_writing(packed) as stream:
                shutil.copyfileobj(plain, stream, 1 << 20)
            data = packed
        flush_to_disk(data)
        write_json(self.path / manifest.NAME, {**record, "fingerprint": file_fingerprint(data)})
        self.give_file_its_name()

    def give_file_its_name(self) -> None:
        """Rename a file and the manifest that is written beside it.

        A process that died within this is finished by the next.
        """
        beside = manifest.beside(self.target)
        data = self.path / (PACKED if is_gzip_name(self.target) else DATA)
        if data.exists():
            beside.unlink(missing_ok=True)
            os.replace(data, self.target)
        os.replace(self.path / manifest.NAME, beside)
        (self.path / DATA).unlink(missing_ok=True)
        self._drop_what_serves_continuing()
        self.path.rmdir()


class FileWork(Work):
    """A file under way, whose `stream` is there."""

    stream: BinaryIO
