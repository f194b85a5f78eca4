"""Which queries ADORE can be trained on: their texts, and the relevant rows of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drtools import console
from drtools.errors import UserError
from drtools.formats.joins import Join
from drtools.formats.jsonl import read_queries
from drtools.formats.lines import shown
from drtools.formats.trec import read_qrels
from drtools.training.adore import Judged

if TYPE_CHECKING:
    from drtools.training.live import LiveIndex


def judged_rows(queries: str, qrels: str, live: LiveIndex, min_rel: int) -> tuple[dict[str, str], dict[str, Judged]]:
    """Return the texts and the relevant rows of the queries that can be trained on; the others are counted."""
    texts = read_queries(queries)
    usable: dict[str, str] = {}
    judged: dict[str, Judged] = {}
    asked, found = Join(texts, shown(queries)), Join(live.ids, str(live.path))
    without_relevant = 0
    for query_id, grades in read_qrels(qrels).items():
        relevant = {document: grade for document, grade in grades.items() if grade >= max(1, min_rel)}
        found.look_up(relevant)
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
    if not usable:
        raise UserError(
            f"{shown(qrels)}: no query has both a text and a relevant document in {live.path}; do the files belong "
            f"together? {(asked if asked.is_empty else found).pair()}"
        )
    asked.note(f"{asked.missing:,} judged queries are not in {shown(queries)}; left out")
    console.notice(without_relevant, f"{without_relevant:,} queries have no relevant document in the index; left out")
    found.note(f"{found.missing:,} relevant documents are not in the index; left out")
    return usable, judged
