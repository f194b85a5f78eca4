"""Writing of a search as a run, query by query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drtools import reporting
from drtools.formats import trec
from drtools.formats.arriving import arriving_queries
from drtools.formats.text_sources import check_judged, judged_queries
from drtools.formats.vectors import open_vectors
from drtools.outputs.states import State
from drtools.search.sources import QUERIES_A_BLOCK, Found
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.outputs.work import Work

QUERIES_A_SAVE = (
    QUERIES_A_BLOCK  # sources count cut and empty queries by block; saving within one would count them twice
)


@dataclass(kw_only=True)
class SearchState(State):
    """The state of a stopped search: the number of finished queries, and their notices."""

    done: int
    counts: dict[str, int]


class Searched(Protocol):
    """Where the hits of a run come from."""

    noted: Counter[str]

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Yield the hits of each (query id, text)."""


def query_texts(queries: str | None, query_vectors: str | None, only: str | None) -> list[tuple[str, str]]:
    """Return (query id, text) of every query to search for; queries given by vectors have no text."""
    if queries:
        return list(judged_queries(queries, only).items())
    assert query_vectors is not None, "words, queries or their vectors are given"
    ids = open_vectors(query_vectors).ids
    judged = trec.read_qrels(only) if only else None
    if only and judged is not None:
        check_judged(judged, only, ids, query_vectors)
    return [(query_id, "") for query_id in ids if judged is None or query_id in judged]


def write_hits(source: Searched, texts: Sequence[tuple[str, str]], depth: int, tag: str, work: Work) -> Counter[str]:
    """Write the run query by query; progress is saved at fixed numbers of queries."""
    assert work.stream is not None, "a run is a file"
    state = SearchState.of(work) or SearchState(done=0, counts={})
    done, counts = state.done, Counter(state.counts)
    from drtools.search.reranking import CorpusReranker, VectorsReranker

    if isinstance(source, VectorsReranker | CorpusReranker):
        source.written = texts[:done]
    with reporting.progress("searching", len(texts), "queries", done) as progress:
        for number, found in enumerate(source.search(texts[done:], depth, {}), start=done + 1):
            trec.write_run(work.stream, [(found.query_id, found.hits)], tag)
            counts.update(hits=len(found.hits), short=len(found.hits) < depth, none=not found.hits)
            progress.advance(1)
            if number % QUERIES_A_SAVE == 0:
                SearchState(done=number, counts=dict(counts + source.noted)).save(work)
    return counts + source.noted


def answer_arriving(source: Searched, depth: int, tag: str, work: Work) -> tuple[Counter[str], int]:
    """Write the hits of each query as it arrives on standard input, and flush them; queries that wait are one block.

    Returns counts, and the number of queries.
    """
    assert work.stream is not None, "a run is a file"
    counts: Counter[str] = Counter()
    total = 0
    for block in arriving_queries(QUERIES_A_BLOCK):
        for found in source.search(block, depth, {}):
            trec.write_run(work.stream, [(found.query_id, found.hits)], tag)
            counts.update(hits=len(found.hits), short=len(found.hits) < depth, none=not found.hits)
        work.stream.flush()
        total += len(block)
    return counts + source.noted, total


def note_counts(counts: Counter[str], queries: int, depth: int) -> None:
    """Report queries that were cut or empty, and those with few hits or none."""
    for name, say in (
        ("truncated", "queries were cut"),
        ("empty", "queries were empty"),
        ("short", f"queries have fewer than {counted(depth, 'hit')}"),
        ("none", "queries have no hits"),
    ):
        reporting.notice(counts[name], f"{counts[name]:,} of {queries:,} {say}")
