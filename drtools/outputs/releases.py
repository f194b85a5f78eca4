"""Releases: published versions of folders behind a link, whose readers always see one whole version.

LINK is a symbolic link to LINK.versions/NUMBER-FINGERPRINT, a folder that never changes once it has this name. A
version is one finished folder, or a folder of several that belong together (an index and its encoder).

A version also holds the texts of its documents, so that later changes of the corpus do not affect its readers. TEXTS is
a file in the version. In a version of several folders, "texts" in the manifest maps each folder to its file.
"""

import datetime
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from drtools import __version__, reporting
from drtools.errors import InputError, param
from drtools.outputs import manifest
from drtools.outputs.contents import PUBLICATION, files_of, is_unchanged
from drtools.outputs.disk import flush_to_disk, read_json, write_json
from drtools.outputs.fingerprints import content_fingerprint, digest
from drtools.outputs.history import last_dates, note_publication
from drtools.outputs.places import without_places
from drtools.outputs.publication import Measures, check_measures
from drtools.outputs.shrinking import ALLOW_SHRINKING, check_shrinking
from drtools.outputs.versions import NAME, VERSIONS, current_version, versions_of

UNFINISHED, LOCK, SWITCH = ".partial", "lock", "link.new"
SECONDS_A_DAY = 86_400
OF_THE_MAKING = ("created", "seconds", "notices")  # keys of a manifest that differ when the same output is made again
MODEL = "drtools.json"  # in models
PARTS = "parts.json"  # in vectors that only name the two folders they are joined from
SHARDS = "shards.json"  # in vectors that only name the folders of their rows


PlaceTexts = Callable[[list[Path], Path], dict[str, str]]  # (folders, version) -> {folder: file with its texts}


class Serving(Protocol):
    """What serves the current version beside the link, and is switched with it."""

    def switch(self, version: Path) -> dict[str, str]:
        """Serve a version; return what the history records of it."""

    def remove(self, version: Path, kept: Sequence[Path]) -> None:
        """Remove what served a version, unless it serves one that is kept."""


class Published(NamedTuple):
    """The result of a publication: the current version, whether it was current before, and the removed versions."""

    version: Path
    was_current: bool
    removed: list[Path]


def publish(
    folders: list[Path],
    link: Path,
    keep: int,
    keep_days: float = 0,
    allow_shrinking: float = ALLOW_SHRINKING,
    place_texts: PlaceTexts | None = None,
    measures: Measures = Measures(),
    serving: Serving | None = None,
) -> Published:
    """Make a version of finished folders and point `link` at it.

    `keep` versions are kept: the new one, the one before, and the latest others. Versions that were published in the
    last `keep_days` days are kept too. Each publication adds a line to the history of the link.

    Folders that were published before give the same version again. Files are hard links if the file system allows them,
    otherwise copies. `place_texts` adds the texts to a new version. An existing version can be published by its own
    path; its number of documents is not compared. `serving` is switched before the link, and again if a process died
    before it had switched the link.

    Raises InputError for a folder that is unfinished or was changed since, and if `link` is not a link. Raises
    GateRefused if more than a share `allow_shrinking` of the documents in the current version is missing, or if
    `measures` fell by more than they allow.
    """
    if link.exists() and not link.is_symlink():
        raise InputError(
            f"a {('folder' if link.is_dir() else 'file')} was found, expected a link or a new name",
            where=link,
            remedy="move it away, or name another link",
        )
    with _alone(link):
        for rest in link.with_name(link.name + VERSIONS).glob(f"*{UNFINISHED}"):
            if NAME.fullmatch(rest.name.removesuffix(UNFINISHED)):
                shutil.rmtree(rest)  # left by a process that died
        before = current_version(link)
        own = _own_version(folders, link)
        if own and measures.facts:
            raise InputError(
                "an earlier version has its own measures", where=param("measures"), remedy="leave them out"
            )
        version = own or _version_of(folders, link, before, allow_shrinking, place_texts, measures)
        was_current = before == version
        # the last publication is not in the history if a process died, or if an older version made it
        if before and before.is_dir():
            note_publication(link, before, link.lstat().st_mtime)
        more = serving.switch(version) if serving else {}
        if not was_current:
            _switch(link, version)
            note_publication(link, version, time.time(), more)
        return Published(version, was_current, _remove_old(link, version, before, keep, keep_days, serving))


def _own_version(folders: list[Path], link: Path) -> Path | None:
    """Return the version whose own path was given, which is how to go back to it."""
    asked = folders[0].resolve()
    return next((version for version in versions_of(link) if len(folders) == 1 and version.resolve() == asked), None)


def _version_of(
    folders: list[Path],
    link: Path,
    before: Path | None,
    allow_shrinking: float,
    place_texts: PlaceTexts | None,
    measures: Measures,
) -> Path:
    """Return the version of these folders, and make it if it does not exist."""
    records = {folder: _finished(folder) for folder in folders}
    names = [folder.name for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(
            f"two of the folders are called {twice}, but their names in a version must differ", remedy="rename one"
        )
    if before and before.exists():
        check_shrinking(records, link, before, allow_shrinking)
        check_measures(measures, link, before)
    identity: list[Any] = [
        [
            folder.name if len(folders) > 1 else "",
            {key: value for key, value in record.items() if key not in _of_the_making(record)},
        ]
        for folder, record in records.items()
    ]
    fingerprint = digest([*identity, measures.facts] if measures.facts else identity)
    known = [version for version in versions_of(link) if version.name.endswith(f"-{fingerprint[:12]}")]
    if not known:
        return _add(records, link, fingerprint, place_texts, measures.facts)
    for folder, record in records.items():
        _check_unchanged(folder, folder, record)
    return known[-1]


def _of_the_making(record: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys of a manifest that differ each time. Older versions recorded the seconds of a training."""
    return (*OF_THE_MAKING, "files", "training_seconds") if "files" in record else OF_THE_MAKING


def _finished(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder. Raises InputError if the folder cannot be published."""
    if not folder.is_dir():
        raise InputError(
            ("a file was found where a folder was expected" if folder.exists() else "no such folder"),
            where=folder,
            remedy="publish takes finished folders",
        )
    if folder.name.endswith(UNFINISHED):
        raise InputError(
            "unfinished work",
            where=folder,
            remedy=f"publish {folder.name.removesuffix(UNFINISHED)} when it is finished",
        )
    if (folder / PARTS).exists():
        raise InputError(
            "the vectors only name the two folders they are joined from, which may change",
            where=folder,
            remedy=f"join them with concat-spar without {param('no_copy')}, and publish that",
        )
    if (folder / SHARDS).exists():
        raise InputError(
            "the vectors only name their shards, which may change",
            where=folder,
            remedy=f"gather the parts without {param('shards')}, and publish that",
        )
    by_hand = (folder / MODEL).exists() and not (folder / manifest.NAME).exists()
    if by_hand and read_json(folder / MODEL).get("kind") == "pair":
        raise InputError(
            "a pair of encoders without a manifest, written by hand",
            where=folder,
            remedy=(
                f"make a finished pair from it with drtools merge {param('model')} {folder} -o PAIR, and publish that"
            ),
        )
    return manifest.read(folder)


@contextmanager
def _alone(link: Path) -> Iterator[None]:
    """Wait until no other process publishes to this link."""
    folder = link.with_name(link.name + VERSIONS)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporting.say(f"{link}: waiting for another process that is publishing to it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _add(
    records: dict[Path, dict[str, Any]],
    link: Path,
    fingerprint: str,
    place_texts: PlaceTexts | None,
    measured: dict[str, Any],
) -> Path:
    """Write a new version: under a temporary name, flushed to the disk, then renamed."""
    number = 1 + max((int(path.name.split("-")[0]) for path in versions_of(link)), default=0)
    version = link.with_name(link.name + VERSIONS) / f"{number:05d}-{fingerprint[:12]}"
    unfinished = version.with_name(version.name + UNFINISHED)
    try:
        if len(records) == 1:
            ((folder, record),) = records.items()
            _take(folder, record, unfinished)
        else:
            unfinished.mkdir()
            for folder, record in records.items():
                _take(folder, record, unfinished / folder.name)
        if measured:
            write_json(unfinished / PUBLICATION, measured)
        texts = place_texts(list(records), unfinished) if place_texts else {}
        if len(records) > 1:
            record = _release_record(records, fingerprint) | ({"texts": texts} if texts else {})
            write_json(unfinished / manifest.NAME, record)
        _flush_folders(unfinished)
        os.rename(unfinished, version)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    flush_to_disk(version.parent)
    return version


def _release_record(records: dict[Path, dict[str, Any]], fingerprint: str) -> dict[str, Any]:
    inputs = [{"path": str(folder), "fingerprint": record["fingerprint"]} for folder, record in records.items()]
    record = {
        "tool": "publish",
        "version": __version__,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "kind": "release",
        "request": {"tool": "publish", "arguments": {"folders": inputs}},
        "fingerprint": fingerprint,
    }
    return without_places(record)


def _take(folder: Path, record: dict[str, Any], target: Path) -> None:
    """Link or copy a folder into a version, and compare it with its manifest there."""
    shutil.copytree(folder, target, copy_function=_link_or_copy)
    _check_unchanged(folder, target, record)


def _check_unchanged(folder: Path, where: Path, record: dict[str, Any]) -> None:
    """Raise InputError if the files in `where`, taken from `folder`, are not those of the manifest."""
    content = [path for path in files_of(where) if path != where / manifest.NAME]
    if (
        not is_unchanged(where, record)
        if "files" in record
        else (content_fingerprint(where, content) != record["fingerprint"])
    ):
        raise InputError(
            "its files differ from its manifest: it was changed after it was made, or is being replaced now",
            where=folder,
            remedy="make it again, then publish it",
        )


def _link_or_copy(source: str, target: str) -> None:
    """Make a hard link to a file, or copy it.

    A link needs no disk space, and is safe because finished outputs are replaced but never changed.
    """
    try:
        os.link(source, target)
    except OSError:  # another file system, or no hard links; a full disk fails again below
        shutil.copy2(source, target)
        flush_to_disk(Path(target))


def _switch(link: Path, version: Path) -> None:
    """Point the link at a version in one step: readers find the old version or the new one."""
    fresh = link.with_name(link.name + VERSIONS) / SWITCH  # in our own folder, so that no other file is overwritten
    fresh.unlink(missing_ok=True)
    os.symlink(version.relative_to(link.parent), fresh)
    os.replace(fresh, link)
    flush_to_disk(link.parent)


def _remove_old(
    link: Path, current: Path, before: Path | None, keep: int, keep_days: float, serving: Serving | None
) -> list[Path]:
    """Remove old versions.

    The current version, the one before, which readers may have open, and recent ones are kept.
    """
    others = [path for path in versions_of(link) if path not in (current, before)]
    removed = others[: max(0, len(others) - (keep - len({current, before} - {None})))]
    if keep_days and removed:
        dates = last_dates(link)
        oldest = time.time() - keep_days * SECONDS_A_DAY
        # without a history: the time at which the folder was renamed
        removed = [path for path in removed if dates.get(path.name, path.stat().st_ctime) < oldest]
    for path in removed:
        if serving:
            serving.remove(path, [each for each in versions_of(link) if each not in removed])
        unfinished = path.with_name(path.name + UNFINISHED)  # a version that is partly removed must not look whole
        os.rename(path, unfinished)
        shutil.rmtree(unfinished)
    return removed


def _flush_folders(folder: Path) -> None:
    for place in (folder, *folder.rglob("*")):
        if place.is_dir():
            flush_to_disk(place)
