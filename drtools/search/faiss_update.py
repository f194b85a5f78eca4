"""Bring a FAISS index up to date.

Rows that are gone are removed, new ones are added, and all are numbered as in the new vectors.

Nothing is trained again. A Flat index gets the same bytes as a full build. Lists (IVF) and codes (PQ, SQ, OPQ, PCA)
keep the centroids and rotations that they were trained with. HNSW cannot remove rows: they are marked, and searches
leave them out (`faiss_marks`), until so many are marked that the index is built anew. Other indexes that cannot remove
rows (fast-scan codes, refined lists) only take new rows at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.dropped import check_dropped
from drtools.formats.ids import Ids
from drtools.formats.joins import Join
from drtools.formats.npy import create_npy
from drtools.formats.row_digests import DIGESTS, RowsByDigest, digests_of_rows, open_digests
from drtools.formats.vectors import IDS, maker_of
from drtools.outputs import manifest
from drtools.search import faiss_marks
from drtools.search.faiss_gpu import Adding
from drtools.search.faiss_index import ADD_ROWS, load, read_rows, write
from drtools.search.faiss_parts import clusterings, create
from drtools.search.faiss_transforms import parts, transforms
from drtools.search.index_manifest import read_index

if TYPE_CHECKING:
    import faiss

    from drtools.formats.joined_vectors import JoinedArray
    from drtools.formats.vectors import Vectors

LARGEST_SHARE_NEW = 0.3  # [ours] share of rows added since the training above which a note is printed


class Change(NamedTuple):
    """The changes to an index.

    `rows`, int64 [N], has the row of each of N vectors in the index, -1 for a new one. `gone`, int64 [G], are the rows
    to remove. `new_before` is the number of rows that earlier updates added after the training, `marked_before` the
    number that they marked as deleted.
    """

    rows: np.ndarray
    gone: np.ndarray
    new_before: int = 0
    marked_before: int = 0

    @property
    def new(self) -> np.ndarray:
        """Rows of the vectors to add."""
        return np.flatnonzero(self.rows < 0)

    @property
    def new_since_training(self) -> int:
        """Number of rows that were not there when the index was trained."""
        return self.new_before + len(self.new)

    @property
    def marked(self) -> int:
        """Number of rows that are marked as deleted if they cannot be removed."""
        return self.marked_before + len(self.gone)


def write_digests(vectors: Vectors, folder: Path) -> None:
    """Write digests.npy with a digest of each row's vector next to an index."""
    digests = create_npy(folder / DIGESTS, np.uint8, (len(vectors.array), 16))
    for start in range(0, len(digests), ADD_ROWS):
        digests[start : start + ADD_ROWS] = _digests(vectors, start)
    digests.flush()


def _digests(vectors: Vectors, start: int) -> np.ndarray:
    stop = min(start + ADD_ROWS, len(vectors.array))
    return digests_of_rows([vectors.ids[row] for row in range(start, stop)], vectors.array[start:stop])


def check_old(folder: str, vectors: Vectors, factory: str | None) -> dict[str, Any]:
    """Return the manifest of the index to be updated.

    Raises InputError if it is not a FAISS index, or if its encoder or factory string differs.
    """
    record = manifest.read(folder)
    if record.get("kind") != "faiss":
        raise InputError(
            f"found {record.get('kind')}",
            expected="a FAISS index",
            remedy=f"build Lucene indexes again, without {param('update')}",
            where=folder,
        )
    record = read_index(folder)
    if (
        record["dimension"] != vectors.manifest["dimension"]
        or record["document_fingerprint"] != vectors.manifest["document_fingerprint"]
    ):
        raise InputError(
            (
                f"made from vectors of another encoder ({maker_of(record)}) than {vectors.path} "
                f"({maker_of(vectors.manifest)})"
            ),
            where=folder,
            remedy=f"build the index again, without {param('update')}",
        )
    if factory and factory != record["factory"]:
        raise InputError(
            f"its {param('factory')} is {record['factory']}, not {factory}",
            where=folder,
            remedy=f"leave {param('factory')} out, or build a new index without {param('update')}",
        )
    Ids(Path(folder) / IDS).check_count(record["count"])
    return record


def changes(folder: str, vectors: Vectors) -> Change:
    """Compare vectors with those of an index, by their digests."""
    record = read_index(folder)
    count = record["count"]
    known = RowsByDigest(open_digests(Path(folder), count))
    rows = np.concatenate(
        [
            np.empty(0, np.int64),
            *(known.find(_digests(vectors, start)) for start in range(0, len(vectors.array), ADD_ROWS)),
        ]
    )
    stays = np.zeros(count, bool)
    stays[rows[rows >= 0]] = True
    return Change(rows, np.flatnonzero(~stays), record["new_since_training"], record.get("marked", 0))


def marked_rows(factory: str, dimension: int, change: Change) -> int:
    """Return how many rows of an updated index are marked as deleted: none where they are removed."""
    return change.marked if change.marked and faiss_marks.takes_marks(create(factory, dimension)) else 0


def construction_of(folder: str) -> int | None:
    """Return with how many candidates the graph of an index was built, None for an index without a graph."""
    import faiss

    index = load(Path(folder) / "index.faiss", memory_map=True)
    graphs = (part for part in parts(index) if isinstance(part, faiss.IndexHNSW))
    return next((int(graph.hnsw.efConstruction) for graph in graphs), None)


def check_gone(folder: str, vectors: Vectors, change: Change, allowed: float) -> None:
    """Report documents of an index that the vectors do not have; InputError for more than a share `allowed`."""
    ids, count = Ids(Path(folder) / IDS), read_index(folder)["count"]
    gone = (ids[int(row)] for row in change.gone)  # a changed document is among them, under an id that stays
    check_dropped(folder, count, gone, vectors.ids, str(vectors.path), allowed)


def note_nothing_kept(folder: str, vectors: Vectors, change: Change) -> None:
    """Report that no row of an index is kept, which may mean that it is of another collection."""
    if len(vectors.array) and not (change.rows >= 0).any():
        found = Join(Ids(Path(folder) / IDS), folder, [vectors.ids[0]])
        words = f"{folder}: none of its rows is in {vectors.path}, so nothing of it is kept"
        reporting.notice(1, f"{words} {found.pair()}".rstrip())


def update(
    folder: str,
    array: np.ndarray | JoinedArray,
    change: Change,
    path: Path,
    threads: int,
    on_progress: Callable[[int], None],
    gpus: Sequence[int] = (),
) -> str | None:
    """Write the index of `folder` to a file, changed so that row i is that of `array` [N, D].

    `on_progress` is called with the number of new rows added. `gpus` (their numbers) find the rows' lists. Returns a
    note for the user if a large share of the rows was added after the training. Raises InputError if rows must be
    removed and the index cannot do it.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    index = load(Path(folder) / "index.faiss")
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    kept, new = change.rows[change.rows >= 0], change.new
    count = faiss_marks.count_rows(index)
    _check_shape(Path(folder) / "index.faiss", (count, index.d), (len(kept) + len(change.gone), array.shape[1]))
    at_the_end = not len(change.gone) and (change.rows[: len(kept)] == np.arange(len(kept))).all()
    inverted = inner.invlists if isinstance(inner, faiss.IndexIVF) else None
    lists = faiss.downcast_InvertedLists(inverted) if inverted is not None else None
    if at_the_end and faiss_marks.rows_of_stored(index) is None:
        _add(index, array, new, None, on_progress, gpus)
    elif faiss_marks.takes_marks(index):
        index = _mark(index, change, array, on_progress)
    elif isinstance(lists, faiss.ArrayInvertedLists):
        index.remove_ids(change.gone)  # type: ignore[arg-type]  # FAISS's stubs know no arrays here
        _renumber(lists, change)
        _add(index, array, new, new, on_progress, gpus)
    elif isinstance(inner, faiss.IndexFlatCodes):
        index.remove_ids(change.gone)  # type: ignore[arg-type]  # FAISS's stubs know no arrays here
        _add(index, array, new, None, on_progress)
        _reorder(inner, change)
    else:
        raise InputError(
            (
                f"{manifest.read(folder)['factory']} cannot remove or move rows, but {len(change.gone):,} of its rows "
                f"are gone or changed{('' if len(change.gone) else ' (their order differs)')}"
            ),
            where=folder,
            remedy=f"build the index again, without {param('update')}",
        )
    assert faiss_marks.count_rows(index) == len(array)
    write(index, path)
    if change.new_since_training > LARGEST_SHARE_NEW * len(array) and (clusterings(index) or transforms(index)):
        return (
            f"{change.new_since_training:,} of {len(array):,} vectors were added since the index was trained; "
            f"{param('check')} measures the recall, building again without {param('update')} trains the index"
        )
    return None


def _check_shape(path: Path, found: tuple[int, int], expected: tuple[int, int]) -> None:
    """Raise InputError unless an index has as many vectors and dimensions as expected."""
    if found != expected:
        raise InputError(
            f"an index of {found[0]:,} vectors of {found[1]} dimensions",
            where=path,
            expected=f"{expected[0]:,} of {expected[1]}",
            remedy=f"build the index anew, without {param('update')}",
        )


def _add(
    index: faiss.Index,
    array: np.ndarray | JoinedArray,
    rows: np.ndarray,
    numbers: np.ndarray | None,
    on_progress: Callable[[int], None],
    gpus: Sequence[int] = (),
) -> None:
    adding = Adding(index, gpus)
    for start in range(0, len(rows), ADD_ROWS):
        part = rows[start : start + ADD_ROWS]
        block = read_rows(array, part)
        adding.add(block, None if numbers is None else numbers[start : start + ADD_ROWS])
        on_progress(start + len(part))


def _mark(
    index: faiss.Index, change: Change, array: np.ndarray | JoinedArray, on_progress: Callable[[int], None]
) -> faiss.Index:
    """Mark the rows that are gone, and add the new ones, whatever their place in `array`."""
    known, inner = faiss_marks.rows_of_stored(index), faiss_marks.without_marks(index)
    if known is None:
        known = np.arange(inner.ntotal)
    numbers = np.full(len(change.rows) + len(change.gone), -1, np.int64)
    numbers[change.rows[change.rows >= 0]] = np.flatnonzero(change.rows >= 0)
    _add(inner, array, change.new, None, on_progress)
    return faiss_marks.with_rows(inner, np.concatenate([np.where(known >= 0, numbers[known], -1), change.new]))


def _renumber(lists: faiss.InvertedLists, change: Change) -> None:
    """Renumber the remaining rows of inverted lists."""
    import faiss

    numbers = np.full(int(max(change.rows.max(initial=-1), change.gone.max(initial=-1))) + 1, -1, np.int64)
    numbers[change.rows[change.rows >= 0]] = np.flatnonzero(change.rows >= 0)
    for number in range(lists.nlist):
        size = lists.list_size(number)
        if size:
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
            ids[:] = numbers[ids]


def _reorder(inner: faiss.IndexFlatCodes, change: Change) -> None:
    """Move the codes, first of remaining and then of new rows, to the order of the new vectors.

    Takes twice the memory of the codes in addition.
    """
    import faiss

    kept = np.flatnonzero(change.rows >= 0)
    order = np.empty(len(change.rows), np.int64)
    order[kept[np.argsort(change.rows[kept])]] = np.arange(len(kept))
    order[change.new] = np.arange(len(kept), len(order))
    if (order != np.arange(len(order))).any():
        codes = faiss.vector_to_array(inner.codes).reshape(len(order), -1)
        faiss.copy_array_to_vector(codes[order].ravel(), inner.codes)
