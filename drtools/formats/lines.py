"""Lines of text files: plain, packed, or from streams that can be read only once (standard input, pipes)."""

import gzip
import os
import stat
import sys
import tempfile
import threading
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from functools import cache, partial
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

from drtools import reporting
from drtools.errors import InputError, WorldError
from drtools.formats.packing import open_packed, packing_name
from drtools.formats.signatures import JSON_LINES, refuse_other_formats
from drtools.formats.urls import is_url, open_url, without_secrets
from drtools.outputs.disk import is_gzip_name
from drtools.outputs.fingerprints import OPEN_FILES
from drtools.process_ranks import world_size

STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
PATIENCE_SECONDS = 10.0  # to wait for a process that writes into a pipe, before a line reports it
GZIP = b"\x1f\x8b"
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)  # what reading a packed stream raises that is cut short or damaged
LONGEST_HEAD = 1 << 16  # bytes of a first line, to recognize its form
LONGEST_LINE = 1 << 27  # [ours] bytes, a hundred long books; a gzip file of a megabyte can hold a line of a gigabyte

_names: dict[str, str] = {}  # spooled copy -> the name that was typed
_spools: list[BinaryIO] = []


@cache
def local(path: str) -> str:
    """Return a path that can be read repeatedly: `path` itself, or a copy of a stream.

    Standard input (`-`), pipes (`<(command)`, FIFOs) and URLs are read whole, once, into a temporary file, so that they
    are fingerprinted, counted and continued like any file. The copy of a gzip stream is packed too (`open_bytes`
    unpacks it), so that a megabyte does not become a gigabyte on the disk.
    """
    if path in STANDARD_INPUT and path != "-":
        return local("-")
    if not reads_once(path):
        return path
    _refuse_several_processes(path)
    if is_url(path):
        with open_url(path) as stream:
            return _spooled(without_secrets(path), stream)
    if path != "-":
        with _open_pipe(path) as stream:
            return _spooled(path, stream)
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe data into `-`, or name a file")
    return _spooled(path, sys.stdin.buffer)


def reads_once(path: str | Path) -> bool:
    """Return whether a path is read only once: standard input, a pipe, a file without a name, a URL.

    Raises InputError for a device or a socket.
    """
    if str(path) in STANDARD_INPUT:
        return True
    if str(path) in _names:  # a copy, which is read as often as one likes
        return False
    if is_url(str(path)):
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    if stat.S_ISREG(mode):  # /dev/fd/N of a file that was removed, as some shells make here-documents
        return not os.path.exists(os.path.realpath(path))
    if stat.S_ISDIR(mode):
        return False
    if stat.S_ISFIFO(mode) or os.path.realpath(path) == os.devnull:
        return True
    raise InputError(
        f"a {('socket' if stat.S_ISSOCK(mode) else 'device')} was found where a file was expected",
        where=path,
        remedy="name a file, or pipe the data into `-`",
    )


def recorded_name(path: str) -> str:
    """Return the name of an input for a manifest: the path, or for a pipe a name that no later file can have."""
    if path in STANDARD_INPUT:
        return "-"
    if is_url(path):
        return without_secrets(path)
    return f"{path} (a pipe)" if reads_once(path) else path


def _refuse_several_processes(path: str) -> None:
    processes = world_size()
    if processes > 1:
        raise InputError(
            f"can be read only once, but {processes} processes read it",
            where=shown(path),
            remedy="write it to a file and use that",
        )


def _open_pipe(path: str) -> BinaryIO:
    """Open a pipe; print a message if no process opens its other end for some time."""
    waiting = threading.Timer(
        PATIENCE_SECONDS, reporting.say, [f"{path}: waiting for a process that writes into this pipe"]
    )
    waiting.daemon = True
    waiting.start()
    try:
        return open(path, "rb")
    finally:
        waiting.cancel()


def _spooled(path: str, stream: BinaryIO) -> str:
    """Copy a stream to a temporary file as it comes, packed if it is gzip, and return the path of the copy.

    The file has no name but that of its number in this process, so that it is gone with the process however it ends.
    """
    spool = tempfile.TemporaryFile(prefix="drtools-input-", buffering=0)  # noqa: SIM115 open as long as the process
    for block in iter(partial(stream.read, 1 << 20), b""):
        _write_copy(block, spool, path)
    _spools.append(spool)
    name = f"{OPEN_FILES}{spool.fileno()}"
    _names[name] = path
    return name


@cache
def unpacked(path: str, first: bytes = b"") -> str:
    """Return a path whose bytes can be mapped or read in any order: as `local`, and a gzip stream is unpacked.

    A stream whose unpacked bytes do not begin with `first` is left packed.
    """
    copy = local(path)
    if not _is_gzip_copy(copy) or first_bytes(copy, len(first)) != first:
        return copy
    with gzip.open(copy, "rb") as stream:
        try:
            return _spooled(path, cast(BinaryIO, stream))
        except DAMAGED as error:
            raise _cut_short(copy, error, shown(path)) from None


def _is_gzip_copy(path: str | Path) -> bool:
    """Return whether a path is the copy of a stream that was gzip. Its name does not tell."""
    if str(path) not in _names:
        return False
    with open(path, "rb") as stream:
        return stream.read(len(GZIP)) == GZIP


def _write_copy(block: bytes, spool: BinaryIO, path: str) -> None:
    """Write a block of a stream into its copy. Raises WorldError if there is no room; the copy is removed."""
    left = memoryview(block)
    try:
        while left:
            left = left[spool.write(left) :]
    except OSError as error:
        written = spool.tell()
        spool.close()
        raise WorldError(
            f"{shown(path)}: no room for a copy of it in {tempfile.gettempdir()} ({error.strerror} after {written:,} "
            "bytes); free some space, set TMPDIR to a folder with more, or name a file"
        ) from None


def shown(path: str | Path) -> str:
    """Name a path in a message: `standard input` for `-`, the name that was typed for a spooled copy.

    A URL is named without its user, password and query.
    """
    text = _names.get(str(path), str(path))
    if is_url(text):
        return without_secrets(text)
    return "standard input" if text == "-" else text


def name_copy(copy: str | Path, name: str) -> None:
    """Set how messages name a copy that was made of an input, such as a file of an archive."""
    _names[str(copy)] = name


def open_bytes(path: str | Path) -> BufferedIOBase:
    """Open a file for reading bytes, unpacked if the name ends in `.gz`, `.bz2`, `.xz` or `.zst`.

    The copy of a stream is unpacked if it is gzip.
    """
    if Path(path).is_dir():
        raise InputError("a folder was found where a file was expected", where=shown(path))
    is_gzip = is_gzip_name(path) or _is_gzip_copy(path)
    return open_packed(path) or (gzip.open(path, "rb") if is_gzip else open(path, "rb"))


def read_lines(
    path: str | Path, with_blank: bool = False, written: str = JSON_LINES, as_stored: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end).

    A byte-order mark before the first line is left out, and so are blank lines unless `with_blank`. `written` is how
    pandas writes such a file, for the error about a table in another format. With `as_stored` every byte of the file is
    yielded: the mark, blank lines, and the ends of lines.

    Raises InputError with file:line for a line of more than `LONGEST_LINE` bytes, and for a packed file that is cut
    short or damaged.
    """
    for number, line in _read_lines(path, LONGEST_LINE, with_blank, written, as_stored):
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"the line is longer than {LONGEST_LINE:,} bytes",
                where=f"{shown(path)}:{number}",
                remedy="write one record a line, and split a text that is so long",
            )
        yield number, line


def first_line(path: str | Path, written: str = JSON_LINES) -> bytes:
    """Return the first line that holds anything, or the start of it if it is long; b"" if there is none."""
    return next(_read_lines(path, LONGEST_HEAD, False, written), (0, b""))[1]


def _read_lines(
    path: str | Path, longest: int, with_blank: bool, written: str, as_stored: bool = False
) -> Iterator[tuple[int, bytes]]:
    path = local(str(path))
    number = 0
    with open_bytes(path) as stream:
        try:
            for line in iter(partial(stream.readline, longest + 1), b""):
                number += 1
                if number == 1:
                    refuse_other_formats(line, shown(path), written)
                if as_stored:
                    yield number, line
                    continue
                if number == 1:
                    line = line.removeprefix(BOM_UTF8)
                line = line.rstrip(b"\r\n")
                if with_blank or (line and not line.isspace()):
                    yield number, line
        except DAMAGED as error:
            if number == 0 and "Not a gzipped" in str(error):
                with open(path, "rb") as packed:
                    refuse_other_formats(packed.readline(), shown(path), written)
                raise InputError(
                    "the name ends in .gz, but the file is not gzip",
                    where=f"{shown(path)}:1",
                    remedy="remove .gz from the name, or compress the file with gzip",
                ) from None
            raise _cut_short(path, error, f"{shown(path)}:{number + 1}") from None


def read_whole(path: str | Path) -> bytes:
    """Read all of a file, unpacked. Raises InputError if its packed stream is cut short or damaged."""
    return first_bytes(path, -1)


def first_bytes(path: str | Path, count: int) -> bytes:
    """Read the first bytes of a file, unpacked. Raises InputError if its packed stream is cut short or damaged."""
    with open_bytes(path) as stream:
        try:
            return stream.read(count)
        except DAMAGED as error:
            raise _cut_short(path, error, shown(path)) from None


def _cut_short(path: str | Path, error: Exception, where: str) -> InputError:
    return InputError(
        f"the {packing_name(path)} stream is cut short or damaged ({error})",
        where=where,
        remedy="fetch or write the file again",
    )


def decode(line: bytes, path: str | Path, number: int) -> str:
    """Decode a line as UTF-8 (a leading byte-order mark is dropped), or name the byte that is not."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte {error.start + 1} is not UTF-8 (found 0x{line[error.start]:02x})",
            where=f"{shown(path)}:{number}",
            remedy=(
                "convert the file from its encoding, for instance with `iconv -f latin1 -t utf-8` if it is Latin-1"
            ),
        ) from None
