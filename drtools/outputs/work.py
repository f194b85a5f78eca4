"""An output that is being made in OUT.partial under a lock, and is renamed to OUT when it is done.

The same command again continues unfinished work, or reports that it is done. Another request is refused with the
difference, or replaces the output with `renew`. The manifest is in a folder, or next to a file as OUT.manifest.json.
"""

import datetime
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from drtools import __version__, reporting
from drtools.outputs import contents, manifest
from drtools.outputs.checksums import Checksums, Span
from drtools.outputs.contents import WORKING
from drtools.outputs.disk import flush_to_disk, is_gzip_name, open_for_writing, open_to_others, write_json
from drtools.outputs.fingerprints import digest, file_fingerprint
from drtools.outputs.naming import DATA, PACKED, Place
from drtools.outputs.places import PUBLISHED, without_places
from drtools.outputs.specs import Request
from drtools.outputs.state_file import STATE, with_checksums


class Work:
    """An unfinished output. `path` is its folder, `state` is what an earlier process saved, `stream` takes the bytes.

    Files under `working` only serve to continue the work and never become part of the output.
    """

    def __init__(self, target: Path, request: Request, overwrite: bool = False, renew: bool = False) -> None:
        self.target = target.resolve() if target.is_symlink() else target  # a link itself is kept
        self.request, self.overwrite, self.renew = request, overwrite, renew
        self.place = Place(self.target)
        self.path = self.place.partial
        self.working = self.path / WORKING
        self.state: dict[str, Any] = {}
        self.checksums = Checksums(self.path)
        self.offset = 0  # bytes of a file that an earlier process has written
        self.stream: BinaryIO | None = None
        self.started = time.time()
        self.seconds_before = 0.0  # of earlier processes, up to what they last saved
        self.done = False
        self.dry_run = False  # whether only the costs are reported

    def seconds(self) -> float:
        """Return how long the work has taken so far, including earlier processes."""
        return round(self.seconds_before + time.time() - self.started, 1)

    def save(self, spans: Mapping[str, Span] | None = None, /, **state: object) -> None:
        """Make what was written so far durable. A later process continues from `state`.

        `spans` gives the bytes of a file that do not change any more, whose checksum is saved. It is needed for files
        that are written in parts, and for files in `working`. Other files of the content are complete.
        """
        if self.stream is not None:
            self.stream.flush()
            os.fsync(self.stream.fileno())
            state["offset"] = self.stream.tell()
        self.state = state
        sizes = contents.sizes_of(self.path)
        known = {name: Span(0, None) for name in sizes} | dict(spans or {})
        if self.stream is not None:
            known[DATA] = Span(0, self.stream.tell())
        own = {"worked_seconds": self.seconds(), "files": sizes}
        write_json(self.path / STATE, with_checksums({**state, **own}, self.checksums.of(known)))

    def finish(self, identity: object = None, **fields: object) -> None:
        """Write the manifest and give the output its name. `fields`, such as counts, go into the manifest.

        The fingerprint is computed from the content, or from the JSON value `identity` if the bytes of equal content
        differ each time they are written.
        """
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
            self._finish_folder(record, identity)
        else:
            self.stream.close()
            self._finish_file(record)
        self.done = True

    def _finish_folder(self, record: dict[str, Any], identity: object) -> None:
        content = contents.files_of(self.path)
        open_to_others(self.path)
        for path in content:
            flush_to_disk(path)
        files = contents.record_of(self.path, content)
        what = contents.identity_of(files) if identity is None else digest(identity)
        write_json(self.path / manifest.NAME, {**record, "files": files, "fingerprint": what})
        self.place.name_folder()

    def _finish_file(self, record: dict[str, Any]) -> None:
        data = self.path / DATA
        if is_gzip_name(self.target):
            packed = self.path / PACKED
            with open(data, "rb") as plain, open_for_writing(packed) as stream:
                shutil.copyfileobj(plain, stream, 1 << 20)
            data = packed
        flush_to_disk(data)
        files = {self.target.name: {"bytes": data.stat().st_size, "fingerprint": file_fingerprint(data)}}
        write_json(
            self.path / manifest.NAME,
            {**record, "files": files, "fingerprint": files[self.target.name]["fingerprint"]},
        )
        self.place.name_file()


class FileWork(Work):
    """An unfinished file, whose `stream` is open."""

    stream: BinaryIO
