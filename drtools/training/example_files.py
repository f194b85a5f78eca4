"""Training examples as files of numbers and texts that are memory-mapped, so that processes share them.

They are made once for each content of examples, queries and corpus, in the cache, in memory that does not grow with
them. Small files of examples are read again by each process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from drtools import reporting
from drtools.errors import InputError, WorldError
from drtools.formats.joins import Join
from drtools.formats.lines import local, shown
from drtools.formats.packed_texts import PackedTexts
from drtools.formats.query_store import open_queries
from drtools.outputs.cache import cache_directory, make_folder, note_unwritable, reason
from drtools.outputs.cache_contents import EXAMPLES, FACTS
from drtools.outputs.cache_locks import alone, hold
from drtools.outputs.disk import flush_to_disk, read_json, write_json
from drtools.outputs.fingerprints import digest, file_fingerprint, is_nameless
from drtools.outputs.places import remember_places
from drtools.training.usable_rows import UsableRow, UsableRows

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore

VERSION = 1  # of the files and of what is read into them
SMALL_BYTES = 1 << 24  # of a file of examples, which is read in a second
BUFFERED = 1 << 17  # numbers of a column in memory
ROWS_A_REPORT = 1000
NAN = float("nan")
DARK = {"dark_positive": "i", "dark_negative": "i", "dark_ratio": "d", "dark_seed": "q", "dark_score": "f"}
KINDS = {
    **{"query_ids": "B", "queries": "B", "positives": "i", "negatives": "i", "avoided": "i"},
    **{"positive_scores": "f", "negative_scores": "f"},
    **DARK,
}
STARTS = ("query_ids", "queries", "positives", "negatives", "avoided", "dark")
BLANK = {"positive_scores": NAN, "negative_scores": NAN, "avoided_starts": 0, "dark_starts": 0}


class ExampleFiles(NamedTuple):
    """Arrays by name: `X` with the lists of all examples, `X_starts` int64 [N + 1] with where each begins.

    An array that would hold nothing but its blank value is not there. `facts` is what reading has counted.
    """

    arrays: dict[str, np.ndarray]
    facts: dict[str, object]

    def texts(self, name: str) -> PackedTexts:
        """Return texts by example."""
        return PackedTexts(self.arrays[name], self.arrays[f"{name}_starts"])

    def join(self, name: str, known: Mapping[str, str] | CorpusStore, shown_name: str) -> Join:
        """Return what was looked up, with its counts."""
        found = self.facts[name]
        assert isinstance(found, dict), "as it was written"
        join = Join(known, shown_name)
        join.asked, join.missing, join.first, join.met = (
            *(found["asked"], found["missing"]),
            *(found["first"], set(found["met"])),
        )
        return join


class _Column:
    """A file of numbers that is appended to. It is begun with the first number that is not `blank`."""

    def __init__(self, folder: Path, name: str, kind: str) -> None:
        self.path, self.kind, self.blank = folder / name, kind, BLANK.get(name)
        self.values: array[Any] = array(kind)
        self.count, self.is_begun = 0, self.blank is None

    def extend(self, values: array[Any]) -> None:
        if not self.is_begun:
            if all(value == self.blank or value != value for value in values):
                self.count += len(values)
                return
            self._begin()
        self.values.extend(values)
        self.count += len(values)
        if len(self.values) >= BUFFERED:
            self.flush()

    def _begin(self) -> None:
        left, self.is_begun = self.count, True
        while left:
            some = min(left, BUFFERED)
            self.values = array(self.kind, [self.blank or 0]) * some
            self.flush()
            left -= some

    def flush(self) -> None:
        if self.values:
            with open(self.path, "ab") as stream:
                self.values.tofile(stream)
            self.values = array(self.kind)


def open_example_files(path: str, queries: str, store: CorpusStore) -> ExampleFiles:
    """Open the files of examples with queries and a corpus; make them if there are none for these contents."""
    source = Path(local(path))
    if source.stat().st_size < SMALL_BYTES:
        return _temporary(path, queries, store)
    fingerprint = file_fingerprint(source)
    corpus = store.fingerprint or file_fingerprint(store.path)
    key = digest([fingerprint, file_fingerprint(Path(local(queries))), corpus])
    folder = make_folder(cache_directory() / EXAMPLES) / f"{key}-{VERSION}"
    found = _opened(folder)
    if found is not None:
        return found
    try:
        return _made_alone(folder, path, queries, store, fingerprint)
    except OSError as error:
        if getattr(error, "filename", None) == str(source):
            raise
        try:
            found = _temporary(path, queries, store)
        except OSError:
            raise WorldError(
                f"{folder}: the cache cannot be written ({reason(error)}), nor can {tempfile.gettempdir()}; make room, "
                "or set DRTOOLS_CACHE to a folder with more"
            ) from None
        note_unwritable(folder, error)
        return found


def _temporary(path: str, queries: str, store: CorpusStore) -> ExampleFiles:
    """Make the files for this process alone; their names go at once, and they with the process."""
    with tempfile.TemporaryDirectory(prefix="drtools-examples-") as name:
        _make(Path(name), path, queries, store)
        return _mapped(Path(name))


def _made_alone(folder: Path, path: str, queries: str, store: CorpusStore, fingerprint: str) -> ExampleFiles:
    """Make the files, unless another process does so meanwhile."""
    with alone(folder.with_suffix(".lock")):
        found = _opened(folder)
        if found is None:
            partial = folder.with_suffix(".partial")
            for left in (partial, folder):  # of a process that was killed; files that are damaged
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir()
            try:
                _make(partial, path, queries, store)
                if file_fingerprint(Path(local(path))) != fingerprint:
                    raise WorldError(
                        f"{shown(path)}: was changed while it was read; run the command again once it is whole"
                    )
                for each in (*partial.iterdir(), partial):
                    flush_to_disk(each)
                os.rename(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            if not is_nameless(Path(local(path))):
                remember_places([(folder.name, str(Path(path).resolve()))])
            found = _opened(folder)
        folder.with_suffix(".lock").unlink(missing_ok=True)
    if found is None:
        raise WorldError(f"{folder}: was removed or damaged just now; run the command again")
    return found


def _opened(folder: Path) -> ExampleFiles | None:
    """Open files that were made before, which are in use as long as their arrays; None if there are none."""
    with ExitStack() as held:
        try:
            held.callback(os.close, hold(folder / FACTS))
            found = _mapped(folder)
        except FileNotFoundError:
            return None
        except (InputError, ValueError) as error:
            reporting.say(f"note: {folder}: damaged ({error}); it is made again")
            return None
        weakref.finalize(found.arrays["positives"], held.pop_all().close)
        return found


def _mapped(folder: Path) -> ExampleFiles:
    facts = read_json(folder / FACTS)
    counts = facts["columns"]
    if not isinstance(counts, dict):
        raise ValueError(f"found {counts!r} as columns")
    arrays = {}
    for name, count in counts.items():
        kind = np.dtype(KINDS.get(name, "q").replace("B", "u1"))
        size = (folder / name).stat().st_size if count else 0
        if size != count * kind.itemsize:
            raise ValueError(f"{name} has {size:,} bytes, expected {count * kind.itemsize:,}")
        # without the class of memory maps, whose every slice costs a microsecond more
        arrays[name] = np.memmap(folder / name, kind, "r").view(np.ndarray) if count else np.empty(0, kind)
    return ExampleFiles(arrays, facts)


def _make(folder: Path, path: str, queries: str, store: CorpusStore) -> None:
    """Read examples into the files of a folder."""
    texts = open_queries(queries)
    rows = UsableRows(path, texts, store, Join(texts, shown(queries)), Join(store, shown(store.corpus)))
    names = {**KINDS, **{f"{name}_starts": "q" for name in STARTS}}
    columns = {name: _Column(folder, name, kind) for name, kind in names.items()}
    with reporting.progress(f"reading {shown(path)}", None, "examples") as progress:
        number = _write(rows, columns, progress)
    store.forget_ids()
    if not number:
        join = rows.asked if rows.asked.is_empty else rows.found
        raise InputError(
            "no example has both a query text and a positive in the corpus; do the files belong together? "
            f"{join.pair()}",
            where=shown(path),
        )
    for column in columns.values():
        column.flush()
    facts = {
        "columns": {name: column.count for name, column in columns.items() if column.is_begun},
        "counts": dict(rows.counts),
        "teachers": list(map(list, rows.teachers.items())),
        "asked": _facts_of(rows.asked),
        "found": _facts_of(rows.found),
    }
    write_json(folder / FACTS, facts)


def _facts_of(join: Join) -> dict[str, object]:
    return {"asked": join.asked, "missing": join.missing, "first": join.first, "met": sorted(join.met)}


def _write(rows: Iterable[UsableRow], columns: Mapping[str, _Column], progress: reporting.Progress) -> int:
    """Append rows to the columns. Returns their number."""
    ends = dict.fromkeys(STARTS, 0)
    number = 0
    for name in STARTS:
        columns[f"{name}_starts"].extend(array("q", [0]))
    for number, row in enumerate(rows, start=1):
        lists: dict[str, array[Any]] = {
            "query_ids": array("B", row.query_id.encode("utf-8", "surrogatepass")),
            "queries": array("B", row.query.encode("utf-8", "surrogatepass")),
            "positives": row.positives,
            "negatives": row.negatives,
            "avoided": array("i", row.doubtful),
            "positive_scores": row.positive_scores,
            "negative_scores": row.negative_scores,
        }
        if row.dark:
            lists |= {
                name: array(kind, values)
                for (name, kind), values in zip(DARK.items(), zip(*row.dark, strict=True), strict=True)
            }
        for name, values in lists.items():
            columns[name].extend(values)
        ends["dark"] += len(row.dark)
        for name in STARTS:
            ends[name] += len(lists[name]) if name in lists else 0
            columns[f"{name}_starts"].extend(array("q", [ends[name]]))
        if number % ROWS_A_REPORT == 0:
            progress.advance(ROWS_A_REPORT)
    return number
