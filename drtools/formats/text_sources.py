"""Texts to encode or search, by position: documents from a store, or queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from drtools.formats.corpora import document_text, read_queries
from drtools.formats.corpus_store import CorpusStore, open_store
from drtools.formats.joins import Join, KnownIds, columns_in_question
from drtools.formats.lines import shown
from drtools.formats.trec import Qrels, read_qrels
from drtools.units import counted


class DocumentTexts:
    """The texts of a corpus, read from its store a slice at a time."""

    side: Literal["document"] = "document"

    def __init__(self, store: CorpusStore, separator: str, rows: range | None = None) -> None:
        self.store, self.separator = store, separator
        self.rows = range(len(store)) if rows is None else rows
        self.path = shown(store.corpus)

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, rows: range) -> DocumentTexts:
        """Return the texts of these rows. The ids that are known are still those of all."""
        return DocumentTexts(self.store, self.separator, rows)

    def known_ids(self) -> KnownIds:
        """Return the documents' ids, to look others up in."""
        return self.store

    def slice(self, start: int, stop: int) -> tuple[list[str], list[str]]:
        """Return (ids, texts) of rows start to stop."""
        chosen = self.rows[start:stop]
        documents = list(self.store.rows(chosen.start, chosen.stop))
        return [document.id for document in documents], [
            document_text(document.title, document.text, self.separator) for document in documents
        ]


class QueryTexts:
    """The texts of queries, held in memory."""

    side: Literal["query"] = "query"

    def __init__(self, queries: dict[str, str], path: str, rows: range | None = None) -> None:
        self.queries = queries
        self.rows = range(len(queries)) if rows is None else rows
        chosen = slice(self.rows.start, self.rows.stop)
        self.ids, self.texts = list(queries)[chosen], list(queries.values())[chosen]
        self.path = shown(path)

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, rows: range) -> QueryTexts:
        """Return the texts of these rows. The ids that are known are still those of all."""
        return QueryTexts(self.queries, self.path, rows)

    def known_ids(self) -> KnownIds:
        """Return the queries' ids, to look others up in."""
        return self.queries

    def slice(self, start: int, stop: int) -> tuple[list[str], list[str]]:
        """Return (ids, texts) of queries start to stop."""
        return self.ids[start:stop], self.texts[start:stop]


def text_in(store: CorpusStore, document_id: str, separator: str) -> str:
    """Return the text of a document that a corpus is known to have."""
    document = store.get(document_id)
    assert document is not None, "what the corpus lacks was left out before"
    return document_text(document.title, document.text, separator)


def judged_queries(queries: str, only: str | None) -> dict[str, str]:
    """Read queries; with the qrels `only` keep those that they judge, and report judged queries without text."""
    texts = read_queries(queries)
    if only is None:
        return texts

    judged = read_qrels(only)
    check_judged(judged, only, texts, queries)
    return {query_id: text for query_id, text in texts.items() if query_id in judged}


def check_judged(judged: Iterable[str], only: str, queries: KnownIds, name: str, consequence: str = "") -> None:
    """Raise InputError if the judgements (or answers) `only` judge none of the queries; report those without text."""
    found = Join(queries, shown(name), judged)
    found.check(
        f"{shown(only)}: judges none of the queries of {shown(name)}; do the two belong together?",
        f"{found.missing:,} of the {found.asked:,} judged queries are not in {shown(name)}{consequence}",
    )


def check_judged_documents(qrels: Qrels, known: KnownIds, name: str) -> list[str]:
    """Return the judged documents that are known and report the others; raise InputError if none is known."""
    judged = sorted({document_id for grades in qrels.values() for document_id in grades})
    found = Join(known, name)
    missing = set(found.look_up(judged))
    found.check(
        f"none of the documents in the dev qrels is in {name}; do the two belong together?"
        + columns_in_question(judged),
        f"{counted(found.missing, 'document of the dev qrels is', 'documents of the dev qrels are')} not in {name}",
    )
    return [document_id for document_id in judged if document_id not in missing]


def texts_of(
    documents: str | None, queries: str | None, only: str | None, separator: str
) -> DocumentTexts | QueryTexts:
    """Open the documents or the queries, whichever is given."""
    if documents is not None:
        return DocumentTexts(open_store(documents), separator)
    assert queries is not None, "one of the two is named"
    return QueryTexts(judged_queries(queries, only), queries)
