"""Analysis of a query's move among its documents by training (Zhan et al. 2021, Figure 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.evaluation import query_move
from drtools.evaluation.analyses.base import Analysis, short
from drtools.evaluation.move_pictures import ACROSS, ALONG, draw_move
from drtools.formats.joins import Join
from drtools.formats.trec import Qrels
from drtools.formats.vectors import Vectors, open_document_vectors, open_query_vectors
from drtools.units import counted


def analyse_move(
    vectors: str, query_vectors: list[str], query: str, qrels: Qrels, min_rel: int, depth: int, folder: Path
) -> Analysis:
    """Plot a query before and after training with its relevant and top documents (move.png and t-sne.png)."""
    documents = open_document_vectors(vectors)
    queries = np.stack([_query_vector(path, query, documents) for path in query_vectors])
    found = query_move.all_scores(documents.array, queries)
    tops = [query_move.best_rows(row, depth) for row in found]
    relevant = _relevant_rows(documents, query, qrels, min_rel)
    shown = list(dict.fromkeys([*tops[0], *tops[1], *relevant.values()]))
    ascending = np.array(sorted(shown), np.int64)
    held = documents.array[ascending][np.argsort(np.argsort(shown))]
    plane = query_move.project(held, *queries)
    if plane is None:
        raise InputError(
            f"query {query!r} has the same vector in {query_vectors[0]} and {query_vectors[1]}; it did not move"
        )
    embedded = query_move.embed(held, *queries)
    groups = _groups(tops[0], tops[1], set(relevant.values()))
    places = {name: [at for at, row in enumerate(shown) if row in rows] for name, rows in groups.items()}
    ranks = {document: [query_move.rank_of(row, at) for row in found] for document, at in relevant.items()}
    length, stay = float(np.linalg.norm(queries[1] - queries[0])), len(set(tops[0]) & set(tops[1]))
    title = _title(query, ranks, stay, len(tops[0]))
    moved = f"the query moves by {length:.3g}; {stay:,} of its top {len(tops[0]):,} stay"
    below = f"{moved}; the plane shows {plane.spread:.0%} of the documents' variance"
    draw_move(folder / "move.png", plane, places, title, below, (ALONG, ACROSS))
    draw_move(
        folder / "t-sne.png", embedded, places, title, f"{moved}; t-SNE: near points are near, far ones need not be far"
    )
    kind = {row: name for name, members in groups.items() for row in members}
    points = zip(shown, plane.documents.tolist(), embedded.documents.tolist(), strict=True)
    numbers = {
        "query": query,
        "length": length,
        "stay": stay,
        "variance_shown": plane.spread,
        "queries": dict(zip(("before", "after"), plane.queries.tolist(), strict=True)),
        "queries_by_t_sne": dict(zip(("before", "after"), embedded.queries.tolist(), strict=True)),
        "relevant": {
            document: dict(zip(("rank_before", "rank_after"), both, strict=True)) for document, both in ranks.items()
        },
        "documents": {
            documents.ids[row]: {"kind": kind[row], "at": at, "by_t_sne": by_t_sne} for row, at, by_t_sne in points
        },
    }
    rows = [
        ["relevant document", "rank before", "rank after"],
        *([document, *(f"{rank:,}" for rank in both)] for document, both in ranks.items()),
    ]
    return Analysis("move", title, rows, numbers)


def _relevant_rows(documents: Vectors, query: str, qrels: Qrels, min_rel: int) -> dict[str, int]:
    wanted = [document for document, grade in qrels.get(query, {}).items() if grade >= min_rel]
    if qrels and not wanted:
        pair = Join(qrels, f"{param('qrels')}", [query]).pair()
        reporting.notice(1, f"the judgements have no relevant document for query {query} {pair}")
    rows = {document: documents.ids.row_of(document) for document in wanted}
    join = Join(documents.ids, str(documents.path), wanted)
    join.note(f"{documents.path} lacks {join.missing:,} of the {len(wanted):,} relevant documents of query {query}")
    return {document: row for document, row in rows.items() if row is not None}


def _groups(top_before: list[int], top_after: list[int], positive: set[int]) -> dict[str, set[int]]:
    before, after = set(top_before), set(top_after)
    return {
        "top before and after": before & after - positive,
        "top before alone": before - after - positive,
        "top after alone": after - before - positive,
        "relevant": positive,
    }


def _title(query: str, ranks: dict[str, list[int]], stay: int, depth: int) -> str:
    if not ranks:
        return f"Query {short(query)} keeps {stay:,} of its top {counted(depth, 'document')}"
    before, after = (min(both[side] for both in ranks.values()) for side in (0, 1))
    move = f"from rank {before:,} to {after:,}" if before != after else f"stays at rank {before:,}"
    return f"Query {short(query)}: best relevant document {move}"


def _query_vector(path: str, query: str, documents: Vectors) -> np.ndarray:
    queries = open_query_vectors(path, documents)
    row = queries.ids.row_of(query)
    if row is None:
        raise InputError(
            f"does not have query {query!r}; {param('query')} takes an id, for instance {queries.ids[0]!r}", where=path
        )
    vector: np.ndarray = np.asarray(queries.array[row : row + 1], np.float32)[0]
    return vector
