"""Files that are packed with bzip2, xz or zstd, and members of zip archives, opened as streams of bytes.

A member of an archive is named `ARCHIVE.zip!MEMBER`. Errors of each library become EOFError, so that a reader handles
one kind for every packing.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from drtools.errors import InputError

MEMBER = ".zip!"  # between the name of an archive and that of its member


class Packing(NamedTuple):
    """A packing: its name, the first bytes of its files, and what opens one."""

    name: str
    first: bytes
    open: Callable[[Path], Any]


def _open_zstd(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise InputError(
            "zstd is read by pyarrow, which is not installed",
            where=path,
            remedy="install it (`pip install pyarrow`), or unpack the file with `zstd -d`",
        ) from None
    return pyarrow.input_stream(str(path), compression="zstd")


PACKINGS = {
    ".bz2": Packing("bzip2", b"BZh", bz2.BZ2File),
    ".xz": Packing("xz", b"\xfd7zXZ\x00", lzma.LZMAFile),
    ".zst": Packing("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
    ".zstd": Packing("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
}


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a stream; damage is raised as EOFError."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview alone
        """Unpack into the buffer."""
        try:
            data = self.stream.read(len(buffer))
        except (lzma.LZMAError, zipfile.BadZipFile, zlib.error) as error:
            raise EOFError(str(error)) from None
        except OSError as error:
            if error.errno is not None:  # of the disk; bz2 and pyarrow raise OSError without a number for bad bytes
                raise
            raise EOFError(str(error)) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the packed stream too."""
        self.stream.close()
        super().close()


def packing_name(path: str | Path) -> str:
    """Return the name of a file's packing, by the end of its name: zip, bzip2, xz, zstd, or else gzip."""
    packing = PACKINGS.get(Path(path).suffix.lower())
    return "zip" if MEMBER in str(path) else packing.name if packing else "gzip"


def open_packed(path: str | Path) -> io.BufferedIOBase | None:
    """Open a file that its name says is packed (bzip2, xz, zstd, a member of a zip); None for any other.

    Raises InputError if the file is not what its name says.
    """
    archive, marked, member = str(path).partition(MEMBER)
    if marked:
        return _buffered(open_archive(f"{archive}.zip").open(member))
    packing = PACKINGS.get(Path(path).suffix.lower())
    if packing is None or not Path(path).is_file():
        return None
    with open(path, "rb") as stream:
        if stream.read(len(packing.first)) != packing.first:
            raise InputError(
                f"the name ends in {Path(path).suffix}, but the file is not {packing.name}",
                where=f"{path}:1",
                remedy=f"remove {Path(path).suffix} from the name, or fetch the file again",
            )
    return _buffered(packing.open(Path(path)))


def _buffered(stream: IO[bytes]) -> io.BufferedIOBase:
    return cast(io.BufferedIOBase, io.BufferedReader(_Unpacked(stream), 1 << 17))


def open_archive(path: str | Path) -> zipfile.ZipFile:
    """Open a zip archive; raise InputError for a file that is none, or is cut short."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"not a whole zip archive ({error})", where=path, remedy="fetch or write the file again"
        ) from None


def members_of(path: str | Path) -> list[str]:
    """Return the files in a zip archive, each named as a path that can be opened."""
    with open_archive(path) as archive:
        return [f"{path}!{each.filename}" for each in archive.infolist() if not each.is_dir()]
