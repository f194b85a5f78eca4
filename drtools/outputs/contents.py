"""The content of an output: its files with sizes and fingerprints, recorded once and compared when read."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from drtools.errors import InputError, param
from drtools.outputs.fingerprints import digest, file_fingerprint
from drtools.outputs.state_file import STATE

REQUEST, LOCK, WORKING = "request.json", "lock", "working"  # only in unfinished work
NEW = ".new"  # of small files, while they are written
CARD = "README.md"  # users edit it
# of a published version, and not part of the content: the texts of its documents, and its measures
TEXTS, PUBLICATION = "texts.sqlite", "publication.json"
OF_THE_MAKING = {CARD, "training.jsonl", "snapshot.json"}  # hold seconds and dates, in any folder of an output


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder's content in order, without those that only serve to continue unfinished work."""
    own = {STATE, REQUEST, LOCK, WORKING, TEXTS, PUBLICATION} | {f"{name}{NEW}" for name in (STATE, REQUEST)}
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in own)


def sizes_of(folder: Path) -> dict[str, int]:
    """Return {name: bytes} for a folder's content."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in files_of(folder)}


def record_of(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the record of files for a manifest: {name: {"bytes", "fingerprint"}}."""
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "fingerprint": file_fingerprint(path)}
        for path in files
    }


def identity_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the fingerprint of files by their names and contents, except files that hold seconds and dates."""
    counted = sorted(name for name in files if Path(name).name not in OF_THE_MAKING)
    return digest([[name, files[name]["fingerprint"]] for name in counted])


def keep_named(folder: Path, named: Mapping[str, int]) -> None:
    """Remove files that the state of unfinished work does not name. Raises InputError for a file that is too short."""
    for path in files_of(folder):
        if str(path.relative_to(folder)) not in named:
            path.unlink()
    for name in (STATE, REQUEST):
        (folder / f"{name}{NEW}").unlink(missing_ok=True)
    for name, size in named.items():
        found = (folder / name).stat().st_size if (folder / name).exists() else 0
        if found < size:
            raise InputError(
                f"{found:,} bytes were found, expected {size:,}: the disk lost data that had been written",
                where=folder / name,
                remedy=f"use {param('overwrite')} to start afresh",
            )
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and path.relative_to(folder).parts[0] != WORKING and not any(path.iterdir()):
            path.rmdir()


def check_sizes(where: Path, record: Mapping[str, Any], remedy: str) -> None:
    """Raise InputError if the size of a file differs from the size in its manifest.

    `where` is a folder, or a file with its manifest next to it. Older versions recorded no sizes.
    """
    for name, known in _known(record).items():
        path = where / name if where.is_dir() else where
        found = path.stat().st_size if path.is_file() else None
        if found == known["bytes"] or Path(name).name == CARD:
            continue
        if found is None:
            raise InputError("it is missing, but it was there when the output was made", where=path, remedy=remedy)
        raise InputError(
            f"{found:,} bytes were found",
            where=path,
            expected=f"{known['bytes']:,}: it was changed or cut short after it was made",
            remedy=remedy,
        )


def check_content(where: Path, record: Mapping[str, Any], written: Path, names: Iterable[str], remedy: str) -> None:
    """Raise InputError if the content of one of these files differs from the manifest of the folder.

    A file that did not change after the manifest was written is not read.
    """
    since = written.stat().st_ctime_ns
    for name in names:
        known, path = _known(record).get(name), where / name
        if (
            Path(name).name != CARD
            and known
            and path.stat().st_ctime_ns >= since
            and file_fingerprint(path) != known["fingerprint"]
        ):
            raise InputError("its content was changed after it was made", where=path, remedy=remedy)


def is_unchanged(where: Path, record: Mapping[str, Any]) -> bool:
    """Read a folder's files again and return whether they are those of its manifest. The model card is not compared."""
    return all(
        (where / name).is_file() and file_fingerprint(where / name) == known["fingerprint"]
        for name, known in _known(record).items()
        if Path(name).name != CARD
    )


def _known(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return record.get("files") or {}
