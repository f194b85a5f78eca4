"""What there is to encode or search: documents out of a store, or queries, by position."""

from drtools import console
from drtools.errors import UserError
from drtools.formats.jsonl import document_text, read_queries
from drtools.formats.lines import shown
from drtools.formats.store import Store, open_store


class DocumentTexts:
    """The texts of a corpus, read from its store a slice at a time."""

    side = "document"

    def __init__(self, store: Store, separator: str) -> None:
        self.store, self.separator = store, separator
        self.path = shown(store.corpus)

    def __len__(self) -> int:
        return len(self.store)

    def slice(self, start: int, stop: int) -> tuple[list[str], list[str]]:
        """Return (ids, texts) of rows start to stop."""
        documents = list(self.store.rows(start, stop))
        return [document.id for document in documents], [
            document_text(document.title, document.text, self.separator) for document in documents
        ]


class QueryTexts:
    """The texts of queries, held in memory."""

    side = "query"

    def __init__(self, queries: dict[str, str], path: str) -> None:
        self.ids, self.texts = list(queries), list(queries.values())
        self.path = shown(path)

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int) -> tuple[list[str], list[str]]:
        """Return (ids, texts) of queries start to stop."""
        return self.ids[start:stop], self.texts[start:stop]


def text_in(store: Store, document_id: str, separator: str) -> str:
    """Return the text of a document that a corpus is known to have."""
    document = store.get(document_id)
    assert document is not None, "what the corpus lacks was left out before"
    return document_text(document.title, document.text, separator)


def judged_queries(queries: str, only: str | None) -> dict[str, str]:
    """Read queries, those that the qrels `only` judge if it is given; a judged query without text is counted."""
    texts = read_queries(queries)
    if only is None:
        return texts
    from drtools.formats.trec import read_qrels

    judged = read_qrels(only)
    kept = {query_id: text for query_id, text in texts.items() if query_id in judged}
    if not kept:
        raise UserError(f"{shown(only)}: judges none of the queries of {shown(queries)}; do the two belong together?")
    missing = len(judged) - len(kept)
    console.notice(missing, f"{missing:,} of the {len(judged):,} judged queries are not in {shown(queries)}")
    return kept


def texts_of(
    documents: str | None, queries: str | None, only: str | None, separator: str
) -> DocumentTexts | QueryTexts:
    """Open whichever is named."""
    if documents is not None:
        return DocumentTexts(open_store(documents), separator)
    assert queries is not None, "one of the two is named"
    return QueryTexts(judged_queries(queries, only), queries)
