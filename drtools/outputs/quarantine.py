"""Quarantine: a folder for input files that were refused, each with its reason beside it.

Files are moved only after the output that leaves them out has its name. A stop before that leaves them where they are;
the output's manifest lists them, so that the same command again moves them.
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
    """A file that was refused: with which content, and why."""

    path: Path
    fingerprint: str
    message: str  # one line
    reason: str  # for the file beside it

    def record(self) -> dict[str, str]:
        """Return what a manifest keeps of it."""
        return {
            "file": readable(str(self.path)),
            "fingerprint": self.fingerprint,
            "message": self.message,
            "reason": self.reason,
        }


def refusal_of(path: Path, error: InputError) -> Refusal:
    """Return the refusal of a file by an error in it."""
    line = re.search(r":(\d+)$", error.where)
    cause = error.found + (f", expected {error.expected}" if error.expected else "")
    reason = "\n".join(
        [
            f"file: {readable(str(path))}",
            f"line: {line[1] if line else '-'}",
            f"cause: {' '.join(cause.split())}",
            f"next: {f'{error.remedy}; ' if error.remedy else ''}{MEND}. Nothing of it was taken.",
            "",
        ]
    )
    return Refusal(path, file_fingerprint(path), str(error), reason)


def left_from(output: Path, paths: Iterable[Path]) -> list[Refusal]:
    """Return those of these files that an output's manifest lists as refused: they have not been moved yet."""
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
    """Raise InputError for what cannot be a quarantine: a file, or a folder from which inputs are taken."""
    if folder.exists() and not folder.is_dir():
        raise InputError("a file was found", where=folder, expected="a folder for refused files, or a new name")
    for path in inputs:
        if path.is_dir() and path.resolve() == folder.resolve():
            raise InputError("is a folder of inputs", where=folder, remedy="name another folder for refused files")


def set_aside(folder: Path, refusals: Iterable[Refusal]) -> tuple[list[Path], list[Path]]:
    """Move files into a folder, each with its reason beside it; return their new names, and those that stayed.

    A file that changed after it was read stays where it is. An earlier file of the same name is kept; the later one
    gets a number.
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
    """Return a name that no file has, or one that an earlier copy of the same file has."""
    number, target = 1, folder / refusal.path.name
    while os.path.lexists(target) and not (target.is_file() and file_fingerprint(target) == refusal.fingerprint):
        number += 1
        target = folder / f"{refusal.path.name}.{number}"
    return target


def move(source: Path, target: Path) -> None:
    """Rename a file, or copy and remove it where it is a link or lies on another file system."""
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
