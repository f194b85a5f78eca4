"""The versions of a published link: list them, resolve paths to them, find their texts.

LINK is a symbolic link to LINK.versions/NUMBER-FINGERPRINT (`releases` makes them).
"""

import os
import re
from pathlib import Path

from drtools.errors import InputError
from drtools.outputs import manifest
from drtools.outputs.contents import TEXTS
from drtools.outputs.records import Record

VERSIONS = ".versions"
NAME = re.compile(r"\d{5,}-[0-9a-f]{12}")
LINKS_IN_A_ROW = 40  # the limit of Linux


def versions_of(link: Path) -> list[Path]:
    """Return the finished versions of a link, oldest first."""
    folder = link.with_name(link.name + VERSIONS)
    return sorted(
        (path for path in folder.glob("*") if NAME.fullmatch(path.name)), key=lambda path: int(path.name.split("-")[0])
    )


def current_version(link: Path) -> Path | None:
    """Return the version that a link names, None if it is not a published link."""
    if not link.is_symlink():
        return None
    named = Path(os.readlink(link))
    return link.parent / named if named.parent == Path(link.name + VERSIONS) else None


def pinned(name: str, seen: dict[Path, Path]) -> str:
    """Return a path with a published link in it replaced by the version that it names.

    `seen` remembers which version each link named first, so that one command takes an index and its encoder from the
    same version.
    """
    path = Path(name)
    for place in (path, *path.parents):
        link = _link_behind(place)
        version = link and current_version(link)
        if link and version:
            one = Path(os.path.realpath(link.parent), link.name)  # the same for every spelling of the path
            return str(seen.setdefault(one, version) / path.relative_to(place))
    return name


def _link_behind(place: Path) -> Path | None:
    """Return the published link at a path, or the one that a user's symbolic link at that path leads to."""
    for _ in range(LINKS_IN_A_ROW):
        if not place.is_symlink() or current_version(place):
            break
        place = place.parent / os.readlink(place)
    return place if place.is_symlink() else None


def release_of(folder: Path) -> tuple[Path, Record] | None:
    """Return the version of several folders that a folder belongs to, with its manifest; None if there is none."""
    place = folder.resolve().parent
    if not folder.is_dir() or not (place / manifest.NAME).is_file():
        return None
    try:
        record = manifest.read_manifest(place / manifest.NAME)
    except (InputError, OSError):
        return None  # another program's file of that name
    return (place, record) if record.get("kind") == "release" else None


def own_texts(folder: Path) -> Path | None:
    """Return the file in a version with the texts of a folder's documents, None if there is none."""
    if not folder.is_dir():
        return None
    if (folder / TEXTS).is_file():
        return folder / TEXTS
    release = release_of(folder)
    if not release:
        return None
    place, record = release
    name = record.get("texts", {}).get(folder.resolve().name)
    found = place / Path(name).name if name else None
    return found if found and found.is_file() else None
