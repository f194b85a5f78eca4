"""Arrays in .npy files, opened as memory maps. Reading one never runs code."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drtools.errors import InputError
from drtools.outputs.checksums import Span

if TYPE_CHECKING:
    import numpy as np

SIGNATURE, ARCHIVE = b"\x93NUMPY", b"PK\x03\x04"


def open_npy(path: str | Path, advice: str, mode: Literal["r", "r+"] = "r", name: str | None = None) -> np.memmap:
    """Open an .npy file as a memory map.

    InputError for anything else, which calls the file `name` and ends with `advice`. With "r+" an earlier process wrote
    the file, and nothing may follow the array.
    """
    import numpy as np

    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged header is read as Python, and fails in as many ways
        # numpy treats unknown data as a pickle, and advises to load it unsafely
        raise InputError(
            f"not a whole .npy file of numbers ({_found(path, error)})", where=name or path, remedy=advice
        ) from None
    if not isinstance(array, np.memmap):
        raise InputError(
            "an archive of arrays (.npz) was found", where=name or path, expected="one array", remedy=advice
        )
    after = os.stat(path).st_size - array.offset - array.nbytes
    if mode == "r+" and after:
        raise InputError(f"{after:,} bytes follow the array", where=name or path, remedy=advice)
    return array


def read_archive(path: Path, advice: str) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file. Raises InputError for anything else, which ends with `advice`."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of the archive, and of the headers in it
        raise InputError(
            f"not a whole .npz file of arrays ({_found(path, error)})", where=path, remedy=advice
        ) from None


def create_npy(path: Path, dtype: np.dtype | type | str, shape: tuple[int, ...]) -> np.memmap:
    """Create an .npy file of zeros and return it as a memory map.

    Its bytes are allocated, so that a full disk is an OSError here: in a map of a sparse file it kills the process.
    """
    import numpy as np

    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if not hasattr(os, "posix_fallocate"):  # macOS
        return array
    with open(path, "r+b") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # the file system cannot allocate
                del array
                raise OSError(error.errno, error.strerror, str(path)) from None
    return array


def span_of_rows(array: np.memmap, count: int) -> Span:
    """Return the bytes of a file's header and first `count` rows, of an array that is a memory map of it."""
    return Span(0, array.offset + count * array.strides[0])


def _found(path: str | Path, error: Exception) -> str:
    with open(path, "rb") as stream:
        head = stream.read(len(SIGNATURE))
    if not head:
        return "found an empty file"
    if head.startswith(ARCHIVE):
        return "found a damaged archive"
    if head != SIGNATURE:
        return "found another format"
    return (
        "found Python objects"
        if "bject" in str(error) or "pickle" in str(error)
        else f"cut short or damaged: {' '.join(str(error).split())[:200]}"
    )
