"""Documents that must not become negatives of a query, and positives that a source does not have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.errors import param
from drtools.formats.joins import Join, KnownIds, heads_of, spellings
from drtools.formats.lines import shown
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.search.other_sources import RunSource

OWN, COPIES, SPELLINGS = "the query's own document", "copies of a positive", "unknown positives in another spelling"
FOREIGN = "not in the corpus"
REASONS = (OWN, COPIES, SPELLINGS, FOREIGN)


@dataclass
class Avoided:
    """Documents that are left out of a query's negatives.

    `copies` maps a positive to the other documents with its text. `unknown` are the positives that the source does not
    have. `own` is whether the document with the query's id is left out. `lists_alone` is whether only the lists of the
    source are known, in which one id may be written in two ways. `foreign` are documents of the source that are not in
    the corpus.
    """

    copies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unknown: Collection[str] = ()
    own: bool = True
    lists_alone: bool = False
    foreign: Collection[str] = ()

    def of(self, query_id: str, positives: Sequence[str], hits: Mapping[str, object] = {}) -> dict[str, str]:
        """Return {document: why it is left out} for a query, without its positives.

        A hit whose id is another spelling of an unknown positive's may be that positive, and is left out too.
        """
        found = {each: FOREIGN for each in hits if each in self.foreign} if self.foreign else {}
        found |= {query_id: OWN} if self.own else {}
        found |= {copy: COPIES for positive in positives for copy in self.copies.get(positive, ())}
        for positive in positives:
            is_unknown = positive in self.unknown
            if is_unknown or (self.lists_alone and positive not in hits):
                heads = heads_of(hits) if is_unknown else ()
                found |= {each: SPELLINGS for each in spellings(positive, heads) if each in hits}
        return {document: why for document, why in found.items() if document not in positives}


def leave_out_unknown(positives: dict[str, list[str]], known: KnownIds, name: str, qrels: str) -> set[str]:
    """Return the positives that a source called `name` does not have; remove queries without any other.

    The source may hold these documents under other ids, so that they would become negatives. Raises InputError if the
    source has no positive at all.
    """
    join = Join(known, name)
    unknown = set(join.look_up(dict.fromkeys(document for documents in positives.values() for document in documents)))
    join.refuse_empty(
        f"{qrels}: none of its {join.asked:,} relevant documents is in {name}; do the two belong together?"
    )
    gone = take_out(positives, unknown)
    join.note(f"{join.missing:,} of the {join.asked:,} relevant documents are not in {name}; {gone}")
    return unknown


def take_out(positives: dict[str, list[str]], unknown: Collection[str]) -> str:
    """Remove the queries from `positives` that have only unknown positives; return a message with their number."""
    gone = [query_id for query_id, documents in positives.items() if all(each in unknown for each in documents)]
    for query_id in gone:
        del positives[query_id]
    return (
        f"{counted(len(gone), 'query has', 'queries have')} no other and {'is' if len(gone) == 1 else 'are'} left out"
    )


def check_queries(source: RunSource, queries: Collection[str], whose: str) -> None:
    """Raise InputError if a run has none of the queries of the file `whose`, and report those that are missing."""
    found = Join(source.run, source.whose, queries)
    found.check(
        f"{source.whose}: holds none of the {found.asked:,} queries to mine for; does the run belong to {whose}?",
        f"{source.whose} does not have {found.missing:,} of the {found.asked:,} queries to mine for",
    )


def leave_out_unlisted(source: RunSource, positives: dict[str, list[str]], qrels: str) -> set[str]:
    """Return the positives that no list of a run holds; remove queries without any other from `positives`.

    Without the corpus such a positive may either not have been retrieved, or be in the run under another id, as which
    it would become a negative.
    """
    join = Join(source.documents, source.whose)
    unknown = set(join.look_up(dict.fromkeys(document for each in positives.values() for document in each)))
    if unknown:
        gone = take_out(positives, unknown)
        join.note(
            f"{join.missing:,} of the {join.asked:,} relevant documents of {qrels} are not in any list of {join.name}: "
            f"they were not retrieved, or have another id there; {gone}; pass the corpus that was searched with "
            f"{param('corpus')} CORPUS to keep those that were only not retrieved"
        )
    return unknown


def unknown_to(store: CorpusStore, source: RunSource) -> set[str]:
    """Return the documents of a run that are not in the corpus, and report them; raise InputError if none is."""
    join = Join(store, shown(store.corpus))
    foreign = set(join.look_up(source.documents))
    join.check(
        f"{source.whose}: none of its {join.asked:,} documents is in {join.name}; do the two belong together?",
        f"{source.whose}: {join.missing:,} of its {join.asked:,} documents are not in {join.name}; they do not become "
        "negatives",
    )
    return foreign


def check_retrieved(source: RunSource, positives: Mapping[str, Sequence[str]], qrels: str) -> None:
    """Raise InputError for a run that holds no positive for any query."""
    run, name = source.run, source.whose
    if any(document in run.get(query_id, ()) for query_id, documents in positives.items() for document in documents):
        return
    found = Join(source.documents, name, dict.fromkeys(document for each in positives.values() for document in each))
    found.refuse_empty(
        f"{name}: holds none of the {found.asked:,} relevant documents of {qrels}, so that they could become negatives "
        "under other ids; do the two belong together? If nothing relevant was retrieved, mine from the index or the "
        "vectors that were searched"
    )
    reporting.notice(1, f"{name}: no query has a relevant document among its hits; is it a run of these queries?")
