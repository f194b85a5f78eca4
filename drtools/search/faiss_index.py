"""Build, load and search FAISS indexes of inner products.

An index knows rows, not ids. If it finds fewer rows than requested, the other rows are -1 with the score -inf; drop
them.

Building the same index with the same number of threads gives the same bytes. HNSW is the exception, because its
insertions race; only its recall is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from drtools import reporting, units
from drtools.errors import InputError, param
from drtools.formats.ids import Ids
from drtools.search import checks, faiss_marks
from drtools.search.faiss_gpu import Adding, OnGpus, clusterings_on
from drtools.search.faiss_parts import (
    EF_CONSTRUCTION,
    WANTED_POINTS_A_CENTROID,
    always_blas,
    clusterings,
    create,
    footprint,
    reason,
    refusals,
    training_points,
)
from drtools.search.faiss_selected import has_estimates, selected_scores
from drtools.search.faiss_transforms import chain, changes_products, note_cosines, parts, train_transforms, transforms
from drtools.search.recall import found_share

if TYPE_CHECKING:
    import faiss

    from drtools.formats.joined_vectors import JoinedArray
    from drtools.outputs.records import Record

PartT = TypeVar("PartT", bound="faiss.Index")

ADD_ROWS = 16_384
# [ours] Of 18,008 questions' vectors IVF256,Flat found .87 of the top 100 with 16 lists, .93 with 32, .97 with 64.
LEAST_CANDIDATES, CANDIDATES_A_HIT = 64, 2
LEAST_LISTS, SHARE_OF_LISTS = 32, 1 / 16
REFINED_A_HIT = 4


def build(
    vectors: np.ndarray | JoinedArray,
    factory: str,
    path: str | os.PathLike[str],
    train_sample: int | None = None,
    seed: int = 42,
    ef_construction: int | None = None,
    threads: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    gpus: Sequence[int] = (),
) -> str | None:
    """Build an index of vectors [N, D] by a FAISS factory string and write it to a file.

    The index is trained on `train_sample` random rows: by default 64 per centroid, at least 65,536 and at most N.
    `on_progress` is called after each block with the number of rows added. `gpus` (their numbers) run the clusterings
    and find the rows' lists. Returns a note for the user if there are few training rows. Raises InputError for a
    factory string that FAISS refuses, for fewer rows than centroids, and for a value that is not finite.
    """
    import faiss

    if threads:
        faiss.omp_set_num_threads(threads)
    checks.refuse_empty(vectors)
    index = create(factory, vectors.shape[1])
    note_cosines(index, factory)
    prepare(index, factory, seed, ef_construction)
    points = training_points(index, factory, len(vectors), train_sample)
    with always_blas(), refusals(factory):
        if points:
            block = read_rows(vectors, sample_rows(len(vectors), points, seed))
            with clusterings_on(index, gpus):
                train_transforms(index, block)
                index.train(block)
            del block
        adding = Adding(index, gpus)
        for start in range(0, len(vectors), ADD_ROWS):
            rows = range(start, min(start + ADD_ROWS, len(vectors)))
            adding.add(read_rows(vectors, rows))
            if on_progress:
                on_progress(rows.stop)
    write(index, path)
    centroids = max((clustering.centroids for clustering in clusterings(index)), default=0)
    if points < WANTED_POINTS_A_CENTROID * centroids:
        return (
            f"{factory} was trained on {units.counted(points, 'vector')}, but {WANTED_POINTS_A_CENTROID * centroids:,} "
            f"are recommended for its {units.counted(centroids, 'centroid')}; {param('check')} measures the recall"
        )
    return None


def write(index: faiss.Index, path: str | os.PathLike[str]) -> None:
    """Write an index to a file."""
    import faiss

    with open(path, "wb") as stream:  # faiss.write_index(path) does not notice a disk that is full at the last bytes
        writer = faiss.PyCallbackIOWriter(stream.write)  # type: ignore[attr-defined]  # FAISS's stubs lack it
        faiss.write_index(index, writer)


def load(path: str | os.PathLike[str], memory_map: bool = False) -> faiss.Index:
    """Read an index; with `memory_map` its vectors stay in the file until a search needs them."""
    import faiss

    try:
        index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC if memory_map else 0)
    except RuntimeError as error:
        raise InputError(f"FAISS cannot read it: {reason(error)}", where=path, remedy="build the index again") from None
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise InputError(
            "found an index of distances",
            where=path,
            expected="one of inner products (METRIC_INNER_PRODUCT)",
            remedy="build it with `drtools index`",
        )
    faiss_marks.check(index, path)
    reporting.notice(
        changes_products(index),
        f"{path}: its PCA was built by drtools 0.1.0 and subtracts the mean or scales the vectors, so that its order "
        "is not that of inner products; build the index again",
    )
    return index


def load_folder(folder: Path, record: Record) -> tuple[faiss.Index, Ids]:
    """Read the index and the ids of an index folder, whose manifest is `record`. Raises InputError if they differ."""
    index, ids = load(folder / "index.faiss"), Ids(folder / "ids.txt")
    count = faiss_marks.count_rows(index)
    if (count, index.d) != (record["count"], record["dimension"]):
        raise InputError(
            f"an index of {count:,} vectors of {index.d} dimensions",
            where=folder / "index.faiss",
            expected=f"{record['count']:,} of {record['dimension']}, as its manifest says",
            remedy="build the index again",
        )
    ids.check_count(count)
    return index, ids


def search_index(
    index: faiss.Index,
    queries: np.ndarray,
    depth: int,
    *,
    nprobe: int | None = None,
    ef_search: int | None = None,
    on_gpus: OnGpus | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows with the highest inner products for queries [Q, D] float32.

    Returns scores float32 [Q, k] and rows int64 [Q, k], best first, with k = min(depth, N). Of equal scores the lower
    row comes first. Rows that the index did not find are -1, at the end. `nprobe` (IVF: lists visited) is by default a
    sixteenth of the lists, at least 32; `ef_search` (HNSW: candidates kept) is twice the depth, at least 64. Refined
    indexes (RFlat) refine four times the depth. `on_gpus` is a copy of the index, which is searched instead. Raises
    InputError for another dimension, values that are not finite, and a setting that the index does not have.
    """
    import faiss

    checks.check_queries(queries, index.d, "the index")
    lists, graphs = _of_type(index, faiss.IndexIVF), _of_type(index, faiss.IndexHNSW)
    if nprobe and not lists:
        raise InputError(
            f"the index is {describe(index)}",
            where=param("nprobe"),
            expected="one with IVF in its factory string",
            remedy=f"leave {param('nprobe')} out",
        )
    if ef_search and not graphs:
        raise InputError(
            f"the index is {describe(index)}",
            where=param("ef_search"),
            expected="one with HNSW in its factory string",
            remedy=f"leave {param('ef_search')} out",
        )
    for part in lists:
        part.nprobe = min(part.nlist, nprobe or max(LEAST_LISTS, int(part.nlist * SHARE_OF_LISTS)))
    for graph in graphs:
        wanted = max([depth, *(owner.nprobe for owner in lists)])
        graph.hnsw.efSearch = ef_search or max(LEAST_CANDIDATES, CANDIDATES_A_HIT * wanted)
    for refined in _of_type(index, faiss.IndexRefine):
        refined.k_factor = REFINED_A_HIT
    count = faiss_marks.count_rows(index)
    found = on_gpus and on_gpus.search(queries, min(depth, count), max((part.nprobe for part in lists), default=None))
    if found:
        scores, rows = found
    elif faiss_marks.rows_of_stored(index) is None:
        scores, rows = index.search(np.ascontiguousarray(queries), min(depth, count))
    else:
        scores, rows = faiss_marks.search(index, queries, min(depth, count), graphs[0].hnsw.efSearch, REFINED_A_HIT)
    if rows.max(initial=-1) >= count or rows.min(initial=0) < -1:
        raise InputError("the index holds numbers of rows that it does not have", remedy="build the index again")
    scores[rows < 0] = -np.inf
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def reconstruct(index: faiss.Index, rows: np.ndarray) -> np.ndarray:
    """Return the vectors float32 [C, D] of rows [C] as they are stored in an index."""
    import faiss

    if not len(rows):
        return np.empty((0, index.d), np.float32)
    rows, inner = faiss_marks.stored_rows(index, rows), faiss_marks.without_marks(index)
    try:
        if _of_type(inner, faiss.IndexIVFFastScan) and not isinstance(inner, faiss.IndexRefine):
            raise RuntimeError  # FAISS would end the process
        for part in _of_type(inner, faiss.IndexIVF):
            if part.direct_map.type == faiss.DirectMap.NoMap:  # type: ignore[attr-defined]  # FAISS's stubs lack it
                part.make_direct_map()
        return inner.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
    except RuntimeError:
        raise InputError(
            f"the index is {describe(index)}, from which single vectors cannot be read",
            remedy=f"use the vectors themselves ({param('vectors')}), or an index without fs",
        ) from None


def scores_of_rows(index: faiss.Index, queries: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the scores float32 [C] of rows [C] for each query [Q, D], as a search of the index computes them."""
    import faiss

    rows = [faiss_marks.stored_rows(index, np.asarray(wanted)) for wanted in rows]
    inner = faiss_marks.without_marks(index)
    queries = np.ascontiguousarray(queries, np.float32)
    if has_estimates(inner):
        return selected_scores(inner, queries, rows)
    if isinstance(inner, faiss.IndexPreTransform):  # PCA, L2norm ...: it compares transformed queries and documents
        for step in chain(inner):
            queries = step.apply(queries)
        inner = faiss.downcast_index(inner.index)
    return [reconstruct(inner, wanted) @ query for wanted, query in zip(rows, queries, strict=True)]


def recall(
    index: faiss.Index,
    vectors: np.ndarray | JoinedArray,
    queries: np.ndarray,
    depth: int,
    *,
    nprobe: int | None = None,
    ef_search: int | None = None,
) -> float:
    """Return the mean share of the exact top `depth` that an index finds.

    Of rows with equal scores at the last rank, any one counts as found.
    """
    _, rows = search_index(index, queries, depth, nprobe=nprobe, ef_search=ef_search)
    return found_share(rows, vectors, queries, depth)


def describe(index: faiss.Index) -> str:
    """Describe an index: `PCAMatrix + IVFPQ (256 lists), 5,183 vectors of 384 dimensions, 56 bytes each`."""
    import faiss

    count, inner = faiss_marks.count_rows(index), faiss_marks.without_marks(index)
    kept = [part for part in parts(inner) if not isinstance(part, (faiss.IndexPreTransform, faiss.IndexFlat))] or [
        inner
    ]
    names = [type(transform).__name__ for transform in transforms(inner)]
    names += [
        type(part).__name__.removeprefix("Index")
        + (f" ({part.nlist} lists)" if isinstance(part, faiss.IndexIVF) else "")
        for part in kept[: 1 + isinstance(kept[0], faiss.IndexRefine)]
    ]
    return (
        f"{' + '.join(names)}, {units.counted(count, 'vector')} of {index.d} dimensions, "
        f"{footprint(inner)[1]:.0f} bytes each"
    )


def prepare(index: faiss.Index, factory: str, seed: int, ef_construction: int | None) -> None:
    """Set seeds and construction parameters, silence the clusterings, and turn off PQ's polysemous training.

    Polysemous codes take minutes of training and are not used by any search here.
    """
    import faiss

    for clustering in clusterings(index):
        clustering.parameters.seed = seed
        clustering.parameters.min_points_per_centroid = 1
    for part in parts(index):
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False
    graphs = _of_type(index, faiss.IndexHNSW)
    if ef_construction and not graphs:
        raise InputError(
            f"{param('factory')} {factory} has no graph",
            where=param("ef_construction"),
            expected="one with HNSW",
            remedy=f"leave {param('ef_construction')} out",
        )
    for part in graphs:
        part.hnsw.efConstruction = ef_construction or EF_CONSTRUCTION


def _of_type(index: faiss.Index, kind: type[PartT]) -> list[PartT]:
    return [part for part in parts(index) if isinstance(part, kind)]


def sample_rows(count: int, size: int, seed: int) -> np.ndarray:
    """Draw `size` of `count` rows, in ascending order."""
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False, shuffle=False))


def read_rows(vectors: np.ndarray | JoinedArray, rows: range | np.ndarray) -> np.ndarray:
    """Return rows as float32; raise InputError for values that are not finite."""
    chosen = vectors[rows.start : rows.stop] if isinstance(rows, range) else vectors[rows]
    block = np.ascontiguousarray(chosen, np.float32)
    checks.refuse_not_finite(vectors, np.all(np.isfinite(block), axis=1), rows)
    return block
