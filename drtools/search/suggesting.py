"""Comparison of FAISS factories on a collection of vectors: their size, speed and recall, and which are worth it."""

from __future__ import annotations

import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.vectors import open_document_vectors, open_query_vectors
from drtools.models.device import all_threads
from drtools.outputs.states import State
from drtools.search import exact, faiss_index
from drtools.search.faiss_parts import WANTED_POINTS_A_CENTROID, estimate
from drtools.search.faiss_trial import refuse_unusable
from drtools.search.presets import PRESETS, factory_of
from drtools.search.rescoring import rescored
from drtools.units import counted, seconds_as_words

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import JoinedArray
    from drtools.outputs.work import Work
    from drtools.search.specs import SuggestionSpec

DEPTHS = (10, 100)
CANDIDATES_A_HIT = 10  # of the re-scored hits, for a depth of 10
TIMES = 3  # searches that are timed; the fastest counts
PQ_DIMENSIONS = 8  # of a part that gets a code of 8 bits


class Measured(TypedDict):
    """A factory's index: bytes of its file and milliseconds of a query, and recall of the exact top 10 and 100.

    `rescored` is the recall at 10 after the top 100 got exact scores. `pareto` is true if no other factory is at least
    as small, as fast and as good (by recall at 100), and better in one of these.
    """

    factory: str
    bytes_a_document: float
    ms_a_query: float
    recall_10: float
    recall_100: float
    rescored_10: float
    build_seconds: float
    pareto: bool


@dataclass(kw_only=True)
class SuggestionState(State):
    """The factories that were measured before a stop."""

    measured: list[Measured]


def factories(count: int, dimension: int) -> list[str]:
    """Return a dozen factories for a collection: exact, compressed, with lists, and a graph."""
    parts = next((size for size in range(dimension // PQ_DIMENSIONS, 0, -1) if dimension % size == 0), 1)
    most = max(1, count // WANTED_POINTS_A_CENTROID)
    lists = 2 ** max(0, min(round(math.log2(4 * math.sqrt(count))), int(math.log2(most))))
    named = [factory_of(name, dimension) for name in PRESETS]
    with_lists = [f"IVF{lists},{codes}" for codes in ("Flat", "SQ8", f"PQ{parts}", "RaBitQ")]
    coded = [f"PQ{parts}", f"OPQ{parts},PQ{parts}", f"PQ{parts}x4fs"]
    return ["Flat", "SQfp16", *named, *coded, *with_lists, "HNSW32", "HNSW32,SQ8"]


def suggest(work: Work, spec: SuggestionSpec) -> dict[str, Any]:
    """Measure factories on vectors, continuing stopped work. Returns what they were measured on, and the results."""
    opened = open_document_vectors(spec.vectors)
    array, queries = opened.array, _queries(spec)
    if spec.sample and spec.sample < len(array):
        rows = faiss_index.sample_rows(len(array), spec.sample, spec.seed)
        array = np.asarray(array[rows])
    count, dimension = array.shape
    chosen = [factory_of(name, dimension) for name in spec.factory or factories(count, dimension)]
    for name in spec.factory or ():
        refuse_unusable(array, factory_of(name, dimension), seed=spec.seed)
    threads = spec.threads or all_threads()
    depth = min(max(DEPTHS), count)
    best, rows = exact.search(array, queries, depth)
    state = SuggestionState.of(work) or SuggestionState(measured=[])
    known = {each["factory"]: each for each in state.measured}
    with reporting.progress("measuring", len(chosen), "factories", len(known)) as progress:
        for factory in chosen:
            if factory in known:
                continue
            try:
                known[factory] = _measured(array, queries, (best, rows), factory, spec.seed, threads)
            except InputError as error:  # too few vectors to train on, for instance
                if spec.factory:
                    raise
                reporting.notice(1, f"left out {factory}: {error}")
            SuggestionState(measured=[*known.values()]).save(work)
            progress.advance(1)
    results = mark_pareto([known[factory] for factory in chosen if factory in known])
    return {
        "documents": count,
        "dimension": dimension,
        "queries": len(queries),
        "threads": threads,
        "factories": results,
    }


def _queries(spec: SuggestionSpec) -> np.ndarray:
    """Return query vectors float32 [Q, D]: those given, or else a sample of the documents."""
    opened = open_document_vectors(spec.vectors)
    chosen = open_query_vectors(spec.query_vectors, opened) if spec.query_vectors else opened
    wanted = min(spec.queries, len(chosen.array))
    if not wanted:
        raise InputError("there are no vectors", where=chosen.path)
    rows = faiss_index.sample_rows(len(chosen.array), wanted, spec.seed)
    return np.ascontiguousarray(chosen.array[rows], np.float32)


def _measured(
    array: np.ndarray | JoinedArray,
    queries: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray],
    factory: str,
    seed: int,
    threads: int,
) -> Measured:
    """Build an index in a temporary file, search it, and compare its hits with the exact ones."""
    import faiss

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.faiss"
        started = time.perf_counter()
        faiss_index.build(array, factory, path, seed=seed, threads=threads)
        built = time.perf_counter() - started
        size, index = os.path.getsize(path), faiss_index.load(path)
    depth = truth[0].shape[1]
    faiss.omp_set_num_threads(1)  # a query by itself has one thread
    seconds = []
    for _ in range(TIMES):
        started = time.perf_counter()
        _, found = faiss_index.search_index(index, queries, depth)
        seconds.append(time.perf_counter() - started)
    faiss.omp_set_num_threads(threads)
    near = found[:, : CANDIDATES_A_HIT * min(DEPTHS)]
    again = rescored(array, queries, near, min(DEPTHS))[1]
    return {
        "factory": factory,
        "bytes_a_document": round(size / len(array), 1),
        "ms_a_query": round(1000 * min(seconds) / len(queries), 4),
        "recall_10": recall_of(array, queries, truth[0], found, DEPTHS[0]),
        "recall_100": recall_of(array, queries, truth[0], found, DEPTHS[1]),
        "rescored_10": recall_of(array, queries, truth[0], again, DEPTHS[0]),
        "build_seconds": round(built, 2),
        "pareto": False,
    }


def recall_of(
    array: np.ndarray | JoinedArray, queries: np.ndarray, best: np.ndarray, found: np.ndarray, depth: int
) -> float:
    """Return the mean share of the exact top `depth` in the first `depth` hits, int64 [Q, k] with -1 for none.

    `best` float32 [Q, K] has the exact scores. Of rows with equal scores at the last rank, any one counts as found.
    """
    cut = min(depth, best.shape[1])
    scores = exact.rerank(array, queries, [row[row >= 0] for row in found[:, :cut]])
    enough = best[:, cut - 1] - 1e-6 * np.abs(best[:, cut - 1])  # two float32 sums of one product
    return round(float(np.mean([(own >= least).sum() / cut for own, least in zip(scores, enough, strict=True)])), 4)


def mark_pareto(results: list[Measured]) -> list[Measured]:
    """Mark the factories than which no other is at least as small, fast and good, and better in one of these."""

    def costs(each: Measured) -> tuple[float, float, float]:
        return each["bytes_a_document"], each["ms_a_query"], -each["recall_100"]

    def beats(one: Measured, other: Measured) -> bool:
        pairs = [*zip(costs(one), costs(other), strict=True)]
        return all(first <= second for first, second in pairs) and any(first < second for first, second in pairs)

    return [{**each, "pareto": not any(beats(other, each) for other in results)} for each in results]


def say_plan(spec: SuggestionSpec) -> None:
    """Print how long the builds take, roughly."""
    opened = open_document_vectors(spec.vectors)
    count, dimension = opened.array.shape
    count = min(count, spec.sample or count)
    chosen = [factory_of(name, dimension) for name in spec.factory or factories(count, dimension)]
    seconds = sum(estimate(factory, count, dimension, spec.threads or all_threads())[1] for factory in chosen)
    reporting.say(
        f"{counted(len(chosen), 'factory', 'factories')} over {counted(count, 'vector')} of {dimension} dimensions: "
        f"roughly {seconds_as_words(seconds)} to build ({param('sample')} limits the vectors)"
    )
