"""What must not become a query's negative besides its positives, and positives that a source does not know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.formats.joins import Join, Known, heads_of, spellings

if TYPE_CHECKING:
    from drtools.search.other_sources import RunSource

OWN, COPIES, SPELLINGS = "the query's own document", "copies of a positive", "unknown positives in another spelling"
REASONS = (OWN, COPIES, SPELLINGS)


@dataclass
class Avoided:
    """Documents that are left out of a query's negatives.

    `copies` has the other documents with a positive's text, `unknown` the positives that the source lacks (None: it
    cannot be said which it lacks); `own` is whether the document with the query's id is left out.
    """

    copies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unknown: Collection[str] | None = ()
    own: bool = True

    def of(self, query_id: str, positives: Sequence[str], hits: Mapping[str, object] = {}) -> dict[str, str]:
        """Return {document: why it is left out} of a query; what is a positive is not among them.

        A hit whose id is an unknown positive's in another spelling may be that positive.
        """
        found = {query_id: OWN} if self.own else {}
        found |= {copy: COPIES for positive in positives for copy in self.copies.get(positive, ())}
        for positive in positives:
            if self.unknown is None and positive not in hits:
                found |= {each: SPELLINGS for each in spellings(positive) if each in hits}
            elif self.unknown and positive in self.unknown:
                found |= {each: SPELLINGS for each in spellings(positive, heads_of(hits)) if each in hits}
        return {document: why for document, why in found.items() if document not in positives}


def leave_out_unknown(positives: dict[str, list[str]], known: Known, name: str, qrels: str) -> set[str]:
    """Return the positives that a source called `name` lacks; queries without any other are taken out of `positives`.

    What they are really called in the source is not known: they would become negatives. UserError if the source has no
    positive at all.
    """
    join = Join(known, name)
    unknown = set(join.look_up(dict.fromkeys(document for documents in positives.values() for document in documents)))
    join.refuse_empty(
        f"{qrels}: none of its {join.asked:,} relevant documents is in {name}; do the two belong together?"
    )
    gone = [query_id for query_id, documents in positives.items() if unknown.issuperset(documents)]
    for query_id in gone:
        del positives[query_id]
    join.note(
        f"{join.missing:,} of the {join.asked:,} relevant documents are not in {name}; {len(gone):,} queries have no "
        "other and are left out"
    )
    return unknown


def check_queries(source: RunSource, queries: Collection[str], whose: str) -> None:
    """Refuse a run that has none of the queries, which stand in the file `whose`, and count those that it lacks."""
    found = Join(source.run, source.whose, queries)
    found.check(
        f"{source.whose}: holds none of the {found.asked:,} queries to mine for; does the run belong to {whose}?",
        f"{source.whose} lacks {found.missing:,} of the {found.asked:,} queries to mine for",
    )


def check_retrieved(source: RunSource, positives: Mapping[str, Sequence[str]], qrels: str) -> None:
    """Refuse a run in which no positive stands, whichever query it was retrieved for."""
    run, name = source.run, source.whose
    if any(document in run.get(query_id, ()) for query_id, documents in positives.items() for document in documents):
        return
    found = Join(source.documents, name, dict.fromkeys(document for each in positives.values() for document in each))
    found.refuse_empty(
        f"{name}: holds none of the {found.asked:,} relevant documents of {qrels}, so that one of them could become a "
        "negative by another name; do the two belong together? If nothing relevant was retrieved, mine from the index "
        "or the vectors that were searched"
    )
    reporting.notice(1, f"{name}: no query has a relevant document among its hits; is it a run of these queries?")
