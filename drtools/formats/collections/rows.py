"""Rows with named columns: CSV, JSON records, Parquet and Arrow files, as dictionaries with the place of each."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError
from drtools.formats.json_array import read_records
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.tsv import LONGEST_COLUMN

DELIMITERS = ",;|"
ROWS_OF_A_BATCH = 4096
ARROW = b"ARROW1"
PARQUET = b"PAR1"


class Row(NamedTuple):
    """A row: its place in words, its number or line, and its values by column."""

    where: str
    number: int
    values: dict[str, Any]


def delimiter_of(header: str) -> str:
    """Return the sign between the columns of a header: a tab, or else the most frequent of `,`, `;` and `|`."""
    return "\t" if "\t" in header else max(DELIMITERS, key=header.count)


def header_of(path: str | Path) -> list[str]:
    """Return the columns in the first line of a CSV or TSV file."""
    number, line = next(read_lines(path), (0, b""))
    text = decode(line, path, number)
    return next(csv.reader([text], delimiter=delimiter_of(text)), [])


def read_csv(path: str | Path) -> Iterator[Row]:
    """Yield the rows of CSV with a header; columns are separated by tabs, or else by `,`, `;` or `|`.

    Raises InputError with file:line for a row with other columns than the header, and a quote that is not closed.
    """
    csv.field_size_limit(LONGEST_COLUMN)
    lines = (decode(line, path, number) + "\n" for number, line in read_lines(path, with_blank=True))
    first = next((text for text in lines if text.strip()), "")
    header = next(csv.reader([first], delimiter=delimiter_of(first)), [])
    if len(set(header)) < len(header):
        double = next(name for name in header if header.count(name) > 1)
        raise InputError(f"found two columns called {double!r}", where=f"{shown(path)}:1", remedy="rename one of them")
    rows = csv.reader(lines, delimiter=delimiter_of(first), strict=True)
    begun = 1
    while True:
        number, begun = begun + 1, 0
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise InputError(
                f"not CSV ({error})", where=f"{shown(path)}:{number}", remedy="double the quotes within a text"
            ) from None
        begun = rows.line_num + 1
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{len(cells)} columns, but the header has {len(header)}",
                where=f"{shown(path)}:{number}",
                expected="the same columns in each row, and texts with line breaks or separators in quotes",
            )
        yield Row(f"{shown(path)}:{number}", number, dict(zip(header, cells, strict=True)))


def read_json_rows(path: str | Path) -> Iterator[Row]:
    """Yield the objects of JSON lines or of one JSON array."""
    for number, record in read_records(path):
        yield Row(f"{shown(path)}:{number}", number, record)


def read_table(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a Parquet or Arrow file, a batch at a time; raise InputError for a damaged one."""
    pyarrow = _pyarrow(path)
    number = 0
    try:
        for batch in _batches(pyarrow, path):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{shown(path)}: row {number:,}", number, values)
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        words = " ".join(str(error).split())[:200]
        raise InputError(
            f"could not be read after row {number:,} ({words})",
            where=shown(path),
            expected="a whole Parquet or Arrow file",
            remedy="fetch or write it again",
        ) from None


def table_columns(path: str | Path) -> list[str]:
    """Return the columns of a Parquet or Arrow file."""
    pyarrow = _pyarrow(path)
    try:
        if _first_bytes(path, PARQUET):
            return list(pyarrow.parquet.read_schema(path).names)
        return list(next(_batches(pyarrow, path)).schema.names)
    except StopIteration:
        return []
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"could not be read ({' '.join(str(error).split())[:200]})",
            where=shown(path),
            expected="a whole Parquet or Arrow file",
            remedy="fetch or write it again",
        ) from None


def table_rows(path: str | Path) -> int | None:
    """Return the number of rows of a Parquet file; None for an Arrow file, which does not say it."""
    return int(_pyarrow(path).parquet.read_metadata(path).num_rows) if _first_bytes(path, PARQUET) else None


def _pyarrow(path: str | Path) -> Any:
    try:
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "Parquet and Arrow are read by pyarrow, which is not installed",
            where=shown(path),
            remedy="install it (`pip install pyarrow`), or write JSON lines",
        ) from None
    return pyarrow


def _first_bytes(path: str | Path, first: bytes) -> bool:
    with open(path, "rb") as stream:
        return stream.read(len(first)) == first


def _batches(pyarrow: Any, path: str | Path) -> Iterator[Any]:
    if _first_bytes(path, PARQUET):
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(ROWS_OF_A_BATCH)
        return
    with pyarrow.memory_map(str(path)) as stream:
        if _first_bytes(path, ARROW):
            file = pyarrow.ipc.open_file(stream)
            for place in range(file.num_record_batches):
                yield file.get_batch(place)
        else:
            yield from pyarrow.ipc.open_stream(stream)
