"""Vectors that other programs wrote, in any of their files: rows, read a block at a time, and ids.

An .npy file and a raw array have their ids in another file. Pickles of Tevatron and DPR, folders of Pyserini's FAISS
indexes, and parquet hold ids too; of pickles and parquet a folder of shards is read in the order of their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from drtools.errors import InputError, param
from drtools.formats.array_pickles import read_array_pickle
from drtools.formats.lines import first_bytes, local, shown, unpacked
from drtools.formats.npy import SIGNATURE
from drtools.formats.npy_vectors import IdSource, Rows, open_array, text_ids

if TYPE_CHECKING:
    import numpy as np

PICKLES, PARQUET, RAW_IDS = (".pkl", ".pickle"), ".parquet", (".memmap", ".bin", ".dat")
ID_COLUMNS = ("_id", "id", "docid", "doc_id", "pid", "query_id", "qid")
VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "emb", "vectors")


class Foreign(NamedTuple):
    """Rows, and the ids that their file holds; None if these are in a file of their own."""

    rows: Rows
    ids: IdSource | None


class Stacked:
    """Arrays of one dimension and one type, one behind the other."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays, self.dtype = arrays, arrays[0].dtype
        self.shape = (sum(map(len, arrays)), arrays[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        import numpy as np

        found, start = [], 0
        for array in self.arrays:
            first, last = max(0, rows.start - start), min(len(array), rows.stop - start)
            if first < last:
                found.append(array[first:last])
            start += len(array)
        return np.concatenate(found)


def open_foreign(path: str, columns: int | None = None, raw: Literal["float16", "float32"] | None = None) -> Foreign:
    """Open vectors in whatever form they are; `columns` is the dimension of a raw array, `raw` its type."""
    folder = Path(local(path))
    if folder.is_dir():
        found = _in_folder(folder, path)
    else:
        head = first_bytes(folder, 8)
        if head.startswith(SIGNATURE) or (columns is None and folder.suffix not in (*PICKLES, PARQUET)):
            found = Foreign(open_array(path), None)
        elif folder.suffix == PARQUET or head.startswith(b"PAR1"):
            found = _parquet([Path(unpacked(path))], path)
        elif folder.suffix in PICKLES:
            found = _pickles([folder], path)
        else:
            assert columns is not None
            return Foreign(_raw(Path(unpacked(path)), path, columns, raw or "float32"), None)
    if columns is not None or raw is not None:
        raise InputError(
            f"{shown(path)} says its own shape and type",
            where=param("columns" if columns is not None else "raw_dtype"),
            remedy="leave it out",
        )
    return found


def _in_folder(folder: Path, path: str) -> Foreign:
    if (folder / "index").is_file() and (folder / "docid").is_file():
        return Foreign(FaissRows(folder / "index"), text_ids(str(folder / "docid")))
    for endings, read in ((PICKLES, _pickles), ((PARQUET,), _parquet)):
        files = sorted((file for file in folder.iterdir() if file.suffix in endings), key=_number)
        if files:
            return read(files, path)
    raise InputError(
        "a folder was found where a file of vectors was expected",
        where=path,
        expected="an .npy file, or a folder with index and docid (Pyserini), shards of .pkl (Tevatron), or of .parquet",
    )


def _number(file: Path) -> list[tuple[int, str]]:
    """Return what sorts names with numbers by the numbers: part-2 before part-10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", file.name)]


def _raw(file: Path, path: str, columns: int, kind: str) -> Rows:
    import numpy as np

    size, row = file.stat().st_size, columns * np.dtype(kind).itemsize
    if not size or size % row:
        raise InputError(
            f"{size:,} bytes, which are no whole rows of {columns} numbers of {kind}",
            where=shown(path),
            remedy=f"use another {param('columns')} or {param('raw_dtype')}",
        )
    return np.memmap(file, dtype=kind, mode="r", shape=(size // row, columns))


def _pickles(files: Sequence[Path], path: str) -> Foreign:
    read = [read_array_pickle(file) for file in files]
    for file, (array, ids) in zip(files, read, strict=True):
        first = read[0][0]
        if (
            array.ndim != 2
            or array.dtype.kind != "f"
            or array.shape[1] != first.shape[-1]
            or array.dtype != first.dtype
        ):
            raise InputError(
                f"found {array.dtype} {list(array.shape)}",
                where=shown(file),
                expected="floating point [rows, dimensions], the same dimensions and type in each shard",
            )
        if ids is not None and len(ids) != len(array):
            raise InputError(f"{len(ids):,} ids for its {len(array):,} rows", where=shown(file))
    rows = Stacked([array for array, _ in read])
    if any(ids is None for _, ids in read):
        return Foreign(rows, None)
    return Foreign(rows, IdSource(shown(path), "row", (each for _, ids in read for each in ids or ())))


class FaissRows:
    """The vectors of a FAISS index that holds them as they were."""

    def __init__(self, path: Path) -> None:
        import faiss
        import numpy as np

        try:
            self.index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise InputError(
                f"could not be read as a FAISS index ({' '.join(str(error).split())[:200]})", where=shown(path)
            ) from None
        inner = faiss.downcast_index(getattr(self.index, "storage", None) or self.index)
        if not isinstance(inner, faiss.IndexFlat):
            raise InputError(
                f"an index of the type {type(self.index).__name__}, whose vectors are compressed or out of order",
                where=shown(path),
                expected="a flat index, or HNSW over one",
            )
        self.flat, self.shape, self.dtype = inner, (int(inner.ntotal), int(inner.d)), np.dtype("float32")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        stop = min(rows.stop, len(self))
        found: np.ndarray = self.flat.reconstruct_n(rows.start, stop - rows.start)
        return found


def _parquet(files: Sequence[Path], path: str) -> Foreign:
    rows = ParquetRows(files)
    return Foreign(rows, IdSource(shown(path), "row", rows.ids()))


class ParquetRows:
    """The vectors of parquet files, read a group of rows at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise InputError(
                "parquet needs the library pyarrow", where=shown(files[0]), remedy="pip install pyarrow"
            ) from None
        self.files = []
        for file in files:
            try:
                self.files.append(ParquetFile(file))
            except (OSError, ValueError) as error:  # pyarrow's own are kinds of these
                raise InputError(
                    f"could not be read as parquet ({' '.join(str(error).split())[:200]})", where=shown(file)
                ) from None
        self.names = files
        self.groups = [(at, group) for at, each in enumerate(self.files) for group in range(each.num_row_groups)]
        if not self.groups:
            raise InputError("found no rows", where=shown(files[0]))
        self.vectors, self.id_column = self._column(VECTOR_COLUMNS), self._column(ID_COLUMNS)
        self.kept: tuple[int, np.ndarray] | None = None
        first = self._group(0)
        self.dtype = first.dtype
        self.shape = (sum(each.metadata.num_rows for each in self.files), first.shape[1])

    def _column(self, names: Sequence[str]) -> str:
        there = self.files[0].schema_arrow.names
        for name in names:
            if name in there:
                return name
        raise InputError(
            f"found the columns {', '.join(there)}", where=shown(self.names[0]), expected=f"one of {', '.join(names)}"
        )

    def _group(self, number: int) -> np.ndarray:
        """Return the vectors of one group of rows [n, D]."""
        import numpy as np
        from pyarrow import types
        from pyarrow.compute import list_value_length

        if self.kept is None or self.kept[0] != number:
            at, group = self.groups[number]
            where = shown(self.names[at])
            column = self.files[at].read_row_group(group, columns=[self.vectors]).column(0).combine_chunks()
            lengths = None if not types.is_nested(column.type) else set(list_value_length(column).to_pylist())
            if lengths is None or len(lengths) != 1 or None in lengths:
                raise InputError(
                    f"{self.vectors} is {column.type}" + (", of several lengths or without some" if lengths else ""),
                    where=where,
                    expected="lists of floating point numbers of one length",
                )
            numbers = column.flatten().to_numpy(zero_copy_only=False)
            if numbers.dtype.kind != "f":
                raise InputError(
                    f"{self.vectors} is {column.type}", where=where, expected="lists of floating point numbers"
                )
            self.kept = number, np.asarray(numbers).reshape(len(column), -1)
        return self.kept[1]

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each group."""
        sizes = [self.files[at].metadata.row_group(group).num_rows for at, group in self.groups]
        return [sum(sizes[:number]) for number in range(len(sizes))]

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> np.ndarray:
        import numpy as np

        found = []
        ends = [*self.starts[1:], len(self)]
        for number, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            if start < rows.stop and end > rows.start:
                group = self._group(number)
                if group.shape[1] != self.shape[1]:
                    raise InputError(
                        f"vectors of {group.shape[1]} dimensions behind some of {self.shape[1]}",
                        where=shown(self.names[self.groups[number][0]]),
                    )
                found.append(group[max(0, rows.start - start) : rows.stop - start])
        return np.concatenate(found)

    def ids(self) -> Iterator[object]:
        """Yield the rows' ids."""
        for at, group in self.groups:
            yield from self.files[at].read_row_group(group, columns=[self.id_column]).column(0).to_pylist()


def read_ids(path: str, count: int) -> IdSource:
    """Read the ids of `count` rows: one a line, an .npy of numbers or texts, or a raw array of int32 or int64."""
    import numpy as np

    file = Path(local(path))
    if file.suffix == ".npy":
        try:
            ids = np.load(file, allow_pickle=False)
        except Exception:  # a damaged header fails in as many ways as Python has
            raise InputError(
                "not a whole .npy file of numbers or texts",
                where=shown(path),
                expected="ids as numpy.save writes integers or texts; objects are not read",
            ) from None
        if ids.ndim != 1 or ids.dtype.kind not in "iuUS":
            raise InputError(
                f"found {ids.dtype} {list(ids.shape)}", where=shown(path), expected="one integer or text for each row"
            )
        values: Iterable[object] = (_plain(value) for value in ids)
        return IdSource(shown(path), "row", values)
    if file.suffix in RAW_IDS:
        size = file.stat().st_size
        kind = {4 * count: "int32", 8 * count: "int64"}.get(size)
        if kind is None:
            raise InputError(
                f"{size:,} bytes for {count:,} rows", where=shown(path), expected="raw int32 or int64, one for each row"
            )
        return IdSource(shown(path), "row", (int(value) for value in np.memmap(file, kind, "r")))
    return text_ids(path)


def _plain(value: Any) -> object:
    plain = value.item()
    return plain.decode() if isinstance(plain, bytes) else plain
