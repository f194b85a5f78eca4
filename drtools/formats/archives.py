"""Archives (zip, tar) that are unpacked into a folder: plain files alone, and none outside of it."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from drtools.errors import InputError
from drtools.formats.packing import open_archive

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
Entry = tuple[str, bool, Callable[[], IO[bytes] | None]]  # name, whether it is a plain file, what opens it
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def is_tar_name(path: str | Path) -> bool:
    """Return whether the name of a file is that of a tar archive, packed or not."""
    return str(path).lower().endswith(TAR)


def is_inside(name: str) -> bool:
    """Return whether a file name in a model's or an archive's files is inside the folder. Links are not followed."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def unpack(path: Path, into: Path) -> list[Path]:
    """Write the files of a zip or tar archive into a folder that is new; return them.

    Raises InputError for a name outside of the folder, a link or a device, and for an archive that is not whole.
    """
    written = []
    try:
        for name, is_file, start in _entries(path):
            if not is_inside(name) or not is_file:
                raise InputError(
                    f"it holds {name!r}{'' if is_inside(name) else ', outside of its folder'}",
                    where=path,
                    expected="plain files in a folder of their own, and no links",
                    remedy="unpack it yourself, and name the folder",
                )
            written.append(_write(into / name, start))
    except DAMAGED as error:
        raise InputError(f"not a whole archive ({error})", where=path, remedy="fetch it again") from None
    except OSError as error:
        if error.errno is not None and not isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            raise
        raise InputError(f"a damaged archive ({error})", where=path, remedy="fetch it again") from None
    return written


def _write(target: Path, start: Callable[[], IO[bytes] | None]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = start()
    assert source is not None, "a plain file has content"
    with source, open(target, "xb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
    return target


def _entries(path: Path) -> Iterator[Entry]:
    """Yield what is in an archive, folders left out.

    The name tells a tar: one whose last file is a zip, as torch saves weights, looks like a zip.
    """
    if not is_tar_name(path):
        with open_archive(path) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    kind = info.external_attr >> 28  # as Unix has it; 0 where another system wrote the archive
                    yield info.filename, kind in (0, 8), lambda info=info: packed.open(info)  # type: ignore[misc]
        return
    archive: Any
    with tarfile.open(path) as archive:
        for entry in archive:
            if not entry.isdir():
                yield entry.name, entry.isfile(), lambda entry=entry: archive.extractfile(entry)  # type: ignore[misc]
