"""The queries that ADORE can be trained on: their texts, their relevant rows, and rows that are not negatives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.copies import copies_among_vectors
from drtools.formats.corpora import read_queries
from drtools.formats.joins import IDS_MET, Join, heads_of, spellings
from drtools.formats.leakage import Trained
from drtools.formats.lines import shown
from drtools.formats.trec import read_qrels
from drtools.methods.adore.loss import Judged
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.methods.adore.live_index import LiveIndex


def judged_rows(
    queries: str, qrels: str, live: LiveIndex, min_rel: int
) -> tuple[dict[str, str], dict[str, Judged], dict[str, list[int]]]:
    """Return the texts and the relevant rows of the queries that can be trained on, and report the others.

    The last value has rows to avoid, by query: they may be a relevant document whose id is spelled differently in the
    index.
    """
    texts = read_queries(queries)
    usable: dict[str, str] = {}
    judged: dict[str, Judged] = {}
    avoided: dict[str, list[int]] = {}
    asked, found = Join(texts, shown(queries)), Join(live.ids, str(live.path))
    heads = heads_of(islice(live.ids, IDS_MET))
    without_relevant = 0
    for query_id, grades in read_qrels(qrels).items():
        relevant = {document: grade for document, grade in grades.items() if grade >= max(1, min_rel)}
        lacking = found.look_up(relevant)
        rows = [(live.ids.row_of(document), grade) for document, grade in relevant.items()]
        known = [(row, grade) for row, grade in rows if row is not None]
        if asked.look_up([query_id]):
            continue
        without_relevant += not known
        if known:
            usable[query_id] = texts[query_id]
            judged[query_id] = Judged(
                np.array([row for row, _ in known]), np.array([grade for _, grade in known], np.float32)
            )
            doubtful = [live.ids.row_of(each) for document in lacking for each in spellings(document, heads)]
            if rows_found := sorted({row for row in doubtful if row is not None}.difference(row for row, _ in known)):
                avoided[query_id] = rows_found
    if not usable:
        raise InputError(
            (
                f"no query has both a text and a relevant document in {live.path}; do the files belong together? "
                f"{(asked if asked.is_empty else found).pair()}"
            ),
            where=shown(qrels),
        )
    asked.note(f"{counted(asked.missing, 'judged query is', 'judged queries are')} not in {shown(queries)}; left out")
    reporting.notice(
        without_relevant,
        f"{counted(without_relevant, 'query has', 'queries have')} no relevant document in the index; left out",
    )
    found.note(f"{counted(found.missing, 'relevant document is', 'relevant documents are')} not in the index; left out")
    return usable, judged, avoided


def avoid_copies(
    avoided: dict[str, list[int]], judged: dict[str, Judged], live: LiveIndex, vectors: str | None
) -> None:
    """Add each query's own document (of its id), and copies of its relevant documents, to the rows to avoid.

    Copies are found by the digests of texts in a vectors folder; without one, only ids are compared.
    """
    every = {row for each in judged.values() for row in each.rows.tolist()}
    copies = (copies_among_vectors(Path(vectors), every) if vectors else None) or {}
    owners = 0
    for query_id, each in judged.items():
        relevant, own = set(each.rows.tolist()), live.ids.row_of(query_id)
        rows = {other for row in relevant for other in copies.get(row, ())} | ({own} if own is not None else set())
        owners += own is not None and own not in relevant
        if more := rows - relevant:
            avoided[query_id] = sorted(more.union(avoided.get(query_id, ())))
    count = len({other for others in copies.values() for other in others})
    if owners or count:
        reporting.say(
            f"{counted(owners, 'query has', 'queries have')} a document with the same id in the index, and "
            f"{counted(count, 'document is an exact copy', 'documents are exact copies')} of a relevant "
            "one; they do not become negatives of the query"
        )


def trained_on(texts: dict[str, str], judged: dict[str, Judged], live: LiveIndex) -> Trained:
    """Return the training queries and relevant documents, by id, for the comparison with dev queries."""

    def positives() -> Iterator[tuple[str, str]]:
        for row in sorted({row for each in judged.values() for row in each.rows.tolist()}):
            yield live.ids[row], live.ids[row]

    return Trained(list(texts.items()), positives)
