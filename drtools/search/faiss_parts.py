"""Parts of a FAISS index: its clusterings, its size, and the time to build it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.errors import InputError, param
from drtools.search.faiss_transforms import parts, refuse_other_products, transforms
from drtools.units import counted

if TYPE_CHECKING:
    import faiss

# FAISS warns below 39 points per centroid, and uses at most 65,536 points for a product quantizer.
WANTED_POINTS_A_CENTROID, TRAINING_POINTS_A_CENTROID, LEAST_TRAINING_POINTS = 39, 64, 65_536
# Below 128,000 coordinates of points FAISS 1.15 does not use BLAS, and the clusterings of a product quantizer's 8
# dimensions take five times as long. 20, the default before 1.15, always uses BLAS.
BLAS_THRESHOLD = 20
PROBE_POINTS = 2048
BYTES_A_SECOND = 5e8
# [ours] Of 18,008 questions' vectors HNSW32 found .9942, .9953, .9981 of the top 100 (ef_search 200) when built at 40
# (FAISS's), 100, 200 in 4, 9, 23 s.
EF_CONSTRUCTION = 100
EXPECTED = "an index of inner products such as Flat, HNSW32 or IVF256,PQ48"


class Clustering(NamedTuple):
    """`times` runs of k-means over `dimension` coordinates, each of `iterations` over at most `most_points` points."""

    parameters: faiss.ClusteringParameters
    centroids: int
    dimension: int
    times: int
    iterations: int
    most_points: int


MEANINGS = (  # words in FAISS's errors, which quote its sources, and what they mean
    ("add_with_ids", "IDMap gives vectors ids of their own, and documents are found by their row; leave it out"),
    ("METRIC_L2", "it only supports distances"),
    ("cur_nprobe", "it has no lists; an IVF has one or more"),
)


def reason(error: RuntimeError) -> str:
    """Return FAISS's message, without the place in its sources and the condition that failed."""
    said = re.sub(r"(?s).*? at \S+:\d+: (Error: )?", "", str(error), count=1)
    for words, meaning in MEANINGS:
        if words in said:
            return meaning
    return re.sub(r"(?s)^'.*?' failed:? *", "", said) or "it cannot do this"


@contextmanager
def refusals(factory: str) -> Iterator[None]:
    """Turn FAISS's errors about a factory string into InputError."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"FAISS refuses it: {reason(error)}", expected=EXPECTED, where=f"{param('factory')} {factory}"
        ) from None
    except MemoryError:
        raise InputError(
            "it needs more memory than there is", expected=EXPECTED, where=f"{param('factory')} {factory}"
        ) from None


@contextmanager
def always_blas() -> Iterator[None]:
    """Make every clustering use BLAS."""
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def create(factory: str, dimension: int) -> faiss.Index:
    """Make an empty index of inner products from a factory string; raise InputError if FAISS refuses it."""
    import faiss

    with refusals(factory):
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise InputError(
            "FAISS always makes an index of distances of this string",
            where=f"{param('factory')} {factory}",
            expected="one of inner products, for instance HNSW32,Flat or IVF1024,PQ48",
        )
    refuse_other_products(index, factory)
    return index


def clusterings(index: faiss.Index) -> list[Clustering]:
    """Return every k-means of an index's training. An OPQ gets the quantizer that it would otherwise create hidden."""
    import faiss

    found = []
    for transform in transforms(index):
        if isinstance(transform, faiss.OPQMatrix):
            if transform.pq is None:
                quantizer = faiss.ProductQuantizer(transform.d_out, transform.M, 8)
                quantizer.this.disown()  # type: ignore[attr-defined]  # the pointer in OPQMatrix does not keep it alive
                transform.pq = quantizer
            quantizer = transform.pq
            rounds = transform.niter_pq_0 + transform.niter_pq * (transform.niter - 1)
            found.append(
                Clustering(
                    quantizer.cp, quantizer.ksub, quantizer.dsub, quantizer.M, rounds, transform.max_train_points
                )
            )
    for part in parts(index):
        if isinstance(part, faiss.IndexIVF):
            found.append(
                Clustering(part.cp, part.nlist, part.d, 1, part.cp.niter, part.cp.max_points_per_centroid * part.nlist)
            )
        if hasattr(part, "pq"):
            found.append(
                Clustering(
                    part.pq.cp,
                    part.pq.ksub,
                    part.pq.dsub,
                    part.pq.M,
                    part.pq.cp.niter,
                    part.pq.cp.max_points_per_centroid * part.pq.ksub,
                )
            )
    return found


def training_points(index: faiss.Index, factory: str, count: int, train_sample: int | None) -> int:
    """Return how many of `count` vectors to train an index on; raise InputError if they are too few."""
    if index.is_trained:
        return 0
    largest = max((clustering.centroids for clustering in clusterings(index)), default=0)
    points = min(count, train_sample or max(LEAST_TRAINING_POINTS, TRAINING_POINTS_A_CENTROID * largest))
    refuse_few_points(factory, largest, points)
    return points


def refuse_few_points(factory: str, wanted: int, points: int) -> None:
    """Raise InputError if there are fewer training points than centroids."""
    if points < wanted:
        raise InputError(
            f"found {counted(points, 'vector')} to train on",
            where=f"{param('factory')} {factory}",
            expected=f"at least {wanted:,}, one for each centroid",
            remedy="choose fewer centroids, or an index without training such as HNSW32 or Flat",
        )


def footprint(index: faiss.Index) -> tuple[float, float]:
    """Return the fixed number of bytes of an index's file, and the number of bytes that each vector adds."""
    import faiss

    index = faiss.downcast_index(index)
    fixed = 0.0
    if isinstance(index, faiss.IndexPreTransform):
        fixed, each = footprint(index.index)
        for transform in transforms(index):
            kept = transform.d_in if isinstance(transform, faiss.PCAMatrix) else 0
            fixed += (
                4 * transform.d_in * (kept + transform.d_out) if isinstance(transform, faiss.LinearTransform) else 0
            )
    elif isinstance(index, faiss.IndexRefine):
        fixed, each = map(sum, zip(footprint(index.base_index), footprint(index.refine_index), strict=True))
    elif isinstance(index, faiss.IndexHNSW):
        # a node has 2 M neighbours on the bottom layer; one node in M is also on the next layer, with M neighbours,
        # and so on; the offset and the level take 12 bytes
        neighbours = neighbours_of(index)
        fixed, each = footprint(index.storage)
        each += 4 * (2 * neighbours + neighbours / (neighbours - 1)) + 12
    elif isinstance(index, faiss.IndexNSG):
        storage = index.storage  # type: ignore[attr-defined]  # FAISS's stubs lack it
        fixed, each = footprint(storage)
        each += 4 * index.nsg.R  # neighbours at most
    elif isinstance(index, faiss.IndexIVF):
        quantizer_fixed, quantizer_each = footprint(index.quantizer)
        fixed, each = quantizer_fixed + index.nlist * (quantizer_each + 8), index.code_size + 8
    else:
        each = float(index.sa_code_size())  # FAISS has none for a graph within another index
    if hasattr(index, "pq"):
        fixed += 4 * index.pq.ksub * index.pq.d
    if hasattr(index, "aq"):  # residual and local search quantizers
        fixed += 4 * index.aq.total_codebook_size * index.aq.d
    return fixed, each


def estimate(factory: str, count: int, dimension: int, threads: int | None = None) -> tuple[float, float]:
    """Estimate the bytes of an index's file (within 10%) and the seconds of its build (within a factor of 2 or 3).

    The time is extrapolated from short measurements on random vectors. Raises InputError as `build` does.
    """
    import faiss

    if threads:
        faiss.omp_set_num_threads(threads)
    index = create(factory, dimension)
    points = training_points(index, factory, count, None)
    fixed, each = footprint(index)
    size = fixed + count * each
    seconds = (size + 4 * count * dimension) / BYTES_A_SECOND  # to write the file and to read the vectors
    with always_blas():
        for clustering in clusterings(index):
            assigned = clustering.iterations * min(points, clustering.most_points) + count
            seconds += assigned * clustering.times * seconds_to_assign(clustering.dimension, clustering.centroids)
    seconds += sum(
        transform.niter * seconds_to_rotate(transform.d_in)
        for transform in transforms(index)
        if isinstance(transform, faiss.OPQMatrix)
    )
    graphs = [part for part in parts(index) if isinstance(part, faiss.IndexHNSW)]
    if graphs and not any(
        isinstance(part, faiss.IndexIVF) for part in parts(index)
    ):  # the graph over the lists of an IVF is small
        seconds += seconds_to_insert(graphs[0].d, neighbours_of(graphs[0]), EF_CONSTRUCTION, count)
    return size, seconds


def neighbours_of(index: faiss.IndexHNSW) -> int:
    """Return the number of neighbours of a graph's node above the bottom layer."""
    return int(index.hnsw.nb_neighbors(1))  # type: ignore[attr-defined]  # FAISS's stubs lack it


def seconds_to_assign(dimension: int, centroids: int) -> float:
    """Measure the time to find a point's nearest centroid, on random points; call it under `always_blas`."""
    import faiss

    points, sample = _random_points(PROBE_POINTS, dimension), min(centroids, PROBE_POINTS)
    faiss.knn(points, points[:sample], 1)
    started = time.perf_counter()
    faiss.knn(points, points[:sample], 1)
    return (time.perf_counter() - started) / PROBE_POINTS * centroids / sample


def seconds_to_insert(dimension: int, neighbours: int, ef_construction: int, count: int) -> float:
    """Estimate the time to insert `count` vectors into an HNSW graph, measured on random ones."""
    import faiss

    index = faiss.IndexHNSWFlat(dimension, neighbours, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = ef_construction
    points = _random_points(PROBE_POINTS, dimension)
    started = time.perf_counter()
    index.add(points)
    # for 2,048 to 18,000 vectors, those of questions took .086 to .285 ms each, random ones .136 to .699 ms
    return float((time.perf_counter() - started) * (count / PROBE_POINTS) ** 1.4)


def seconds_to_rotate(dimension: int) -> float:
    """Measure the time of a singular value decomposition, which OPQ computes in each round besides its clusterings."""
    matrix = _random_points(dimension, dimension)
    started = time.perf_counter()
    np.linalg.svd(matrix)
    return time.perf_counter() - started


def _random_points(count: int, dimension: int) -> np.ndarray:
    points = np.random.default_rng(0).standard_normal((count, dimension), dtype=np.float32)
    directions: np.ndarray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return directions
