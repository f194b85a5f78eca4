"""Quarantine: a folder for input files that were refused, each with a file that gives the reason.

Files are moved only after the output that leaves them out has its name. If the process stops before that, they stay
where they are. The manifest of the output lists them, so that the same command moves them when it is run again.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from drtools.errors import InputError
from drtools.outputs import manifest
from drtools.outputs.disk import flush_to_disk
from drtools.outputs.fingerprints import file_fingerprint
from drtools.units import readable

REASON = ".reason.txt"
MEND = "mend the file, then deliver it again"


class Refusal(NamedTuple):
    """A file that was refused, with the fingerprint of its content and the reason."""

    path: Path
    fingerprint: str
    message: str  # one line
    reason: str  # for the file next to it

    def record(self) -> dict[str, str]:
        """Return the entry for a manifest."""
        return {
            "file": readable(str(self.path)),
            "fingerprint": self.fingerprint,
            "message": self.message,
            "reason": self.reason,
        }


def refusal_of(path: Path, error: InputError) -> Refusal:
    """Return the refusal of a file because of an error in it."""
    line = re.search(r":(\d+)$", error.where)
    cause = error.found + (f", expected {error.expected}" if error.expected else "")
    reason = "\n".join(
        [
            f"file: {readable(str(path))}",
            f"line: {line[1] if line else '-'}",
            f"cause: {' '.join(cause.split())}",
            f"next: {f'{error.remedy}; ' if error.remedy else ''}{MEND}. Nothing in it was used.",
            "",
        ]
    )
    return Refusal(path, file_fingerprint(path), str(error), reason)


def left_from(output: Path, paths: Iterable[Path]) -> list[Refusal]:
    """Return the files that the manifest of an output lists as refused and that have not been moved yet."""
    known = {
        str(entry.get("fingerprint")): entry
        for entry in manifest.read_manifest(manifest.beside(output)).get("refused", [])
    }
    left = [(path, file_fingerprint(path)) for path in paths] if known else []
    return [
        Refusal(path, found, str(known[found].get("message", "")), str(known[found].get("reason", "")))
        for path, found in left
        if found in known
    ]


def check_quarantine(folder: Path, inputs: Iterable[Path]) -> None:
    """Raise InputError if `folder` cannot be a quarantine because it is a file or a folder of inputs."""
    if folder.exists() and not folder.is_dir():
        raise InputError("found a file", where=folder, expected="a folder for refused files, or a new name")
    for path in inputs:
        if path.is_dir() and path.resolve() == folder.resolve():
            raise InputError("is a folder of inputs", where=folder, remedy="name another folder for refused files")


def set_aside(folder: Path, refusals: Iterable[Refusal]) -> tuple[list[Path], list[Path]]:
    """Move files into a folder and write their reasons. Returns the new paths, and the paths that were not moved.

    A file that changed after it was read is not moved. If the name is taken by another file, a number is added.
    """
    moved, stayed = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for refusal in refusals:
        if not refusal.path.is_file() or file_fingerprint(refusal.path) != refusal.fingerprint:
            stayed.append(refusal.path)
            continue
        target = _free_name(folder, refusal)
        reason = target.with_name(target.name + REASON)
        fresh = reason.with_name(f".{reason.name}.new")
        fresh.write_text(refusal.reason, encoding="utf-8")
        flush_to_disk(fresh)
        os.replace(fresh, reason)
        move(refusal.path, target)
        moved.append(target)
    flush_to_disk(folder)
    return moved, stayed


def _free_name(folder: Path, refusal: Refusal) -> Path:
    """Return a path that is free, or that holds an earlier copy of the same file."""
    number, target = 1, folder / refusal.path.name
    while os.path.lexists(target) and not (target.is_file() and file_fingerprint(target) == refusal.fingerprint):
        number += 1
        target = folder / f"{refusal.path.name}.{number}"
    return target


def move(source: Path, target: Path) -> None:
    """Rename a file, or copy and remove it if it is a link or on another file system."""
    if not source.is_symlink():
        try:
            os.rename(source, target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:  # another file system
                raise
    copy = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, copy)
    flush_to_disk(copy)
    os.replace(copy, target)
    source.unlink()
