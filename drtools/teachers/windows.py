"""Windows of pairs from examples and runs for a teacher to score, and the way of the scores back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from drtools.errors import InputError
from drtools.formats.corpora import document_text
from drtools.formats.dark_items import documents_of
from drtools.formats.joins import Join
from drtools.formats.lines import shown

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.formats.examples import Example

LACKING = "lacking"  # the key of documents that are not in the corpus and would not be scored if they were
Pair = tuple[str, str]
Scored = TypeVar("Scored")  # the source of the pairs: an example, or a query of a run
Part = tuple[list[Pair], list[int | None], Scored]
Window = tuple[list[Pair], list[int | None], list[Scored]]


class Asked(NamedTuple):
    """An item of an example to be scored.

    `key` is the list that its score goes to. `text` is None if there is nothing to score. `limit` is the maximum number
    of tokens of the text, None for the teacher's usual one. `cut` is whether a text that was made for the teacher has
    lost its ends.
    """

    key: str
    text: str | None
    limit: int | None = None
    cut: bool = False


class ScoredTexts(NamedTuple):
    """The texts of queries and, by a title rule, of documents."""

    queries: Mapping[str, str]
    store: CorpusStore
    title_separator: str
    queries_name: str = "the queries"

    def document(self, document_id: str) -> str | None:
        """Return a document's text, or None if it is not in the corpus."""
        document = self.store.get(document_id)
        return None if document is None else document_text(document.title, document.text, self.title_separator)


# lists what else of an example is to be scored; a text's place in its list is kept
Contributor = Callable[["Example", ScoredTexts], list[Asked]]


def documents_in(example: Example) -> list[str]:
    """Return every document that an example names."""
    dark = (part for item in example.dark or () for part in documents_of(item))
    return [*example.positives, *example.negatives, *dark]


class Lacking:
    """The queries and documents without a text; messages show one of each.

    `first` is saved with unfinished work, because a process that continues has not seen them.
    """

    def __init__(self, texts: ScoredTexts, first: dict[str, list[str]]) -> None:
        self.joins = {
            "lacking queries": Join(texts.queries, texts.queries_name),
            "lacking documents": Join(texts.store, shown(texts.store.corpus)),
        }
        for name, ids in first.items():
            self.joins[name].first += ids

    @property
    def first(self) -> dict[str, list[str]]:
        """The first of them."""
        return {name: join.first for name, join in self.joins.items()}

    def look_up(self, query_id: str, documents: Sequence[str]) -> bool:
        """Look up a query and documents, and return whether the query and one of the documents have a text."""
        if self.joins["lacking queries"].look_up([query_id]):
            return False
        return len(self.joins["lacking documents"].look_up(documents)) < len(documents)


def check_texts(named: Iterable[tuple[str, Sequence[str]]], texts: ScoredTexts, path: str) -> None:
    """Raise InputError if no query in examples or a run has a text together with one of its documents.

    `named` yields (query id, documents) and is read until such a query is found.
    """
    lacking = Lacking(texts, {})
    if any(lacking.look_up(query_id, documents) for query_id, documents in named):
        return
    queries, documents = lacking.joins.values()
    if queries.asked:
        raise InputError(
            (
                "no query with a text has a document in the corpus; do the files belong together? "
                f"{(queries if queries.is_empty else documents).pair()}"
            ),
            where=shown(path),
        )


def asked_of(
    example: Example, texts: ScoredTexts, contributors: Sequence[Contributor] = (), documents: bool = True
) -> list[Asked]:
    """List the items of an example to be scored: positives, negatives, and what `contributors` add, each in order.

    Without `documents`, whole documents are not scored; those that are not in the corpus are listed as `LACKING`.
    """
    found = {document: texts.document(document) for document in (*example.positives, *example.negatives)}
    asked = [
        *(Asked("positive_scores", found[document]) for document in example.positives),
        *(Asked("negative_scores", found[document]) for document in example.negatives),
    ]
    if not documents:
        asked = [Asked(LACKING, None) for item in asked if item.text is None]
    return [*asked, *(item for contribute in contributors for item in contribute(example, texts))]


def with_scores(
    example: Example, asked: list[Asked], scores: Iterable[float], scored_by: str, documents: bool = True
) -> Example:
    """Put the scores of items with a text, in order, into an example's lists; items without a text get None.

    Without `documents`, whole documents keep the scores of the same teacher and lose those of another.
    """
    lists: dict[str, list[float | None]] = {"positive_scores": [], "negative_scores": []}
    given = iter(scores)
    for item in asked:
        lists.setdefault(item.key, []).append(None if item.text is None else next(given))
    lists.pop(LACKING, None)
    found = lists.pop("positive_scores"), lists.pop("negative_scores")
    if documents:
        example.positive_scores, example.negative_scores = found
    elif example.scored_by != scored_by:
        example.positive_scores = example.negative_scores = None
    example.dark_scores = lists.pop("dark_scores", None if example.dark is None else [])
    example.others |= lists
    example.scored_by = scored_by
    return example


def example_windows(
    examples: Iterable[Example],
    texts: ScoredTexts,
    contributors: Sequence[Contributor],
    pairs_a_window: int,
    documents: bool = True,
) -> Iterator[Window[tuple[Example, list[Asked]]]]:
    """Yield windows of whole examples: pairs, limits, and (example, its items, as `asked_of` lists them)."""

    def each() -> Iterator[Part[tuple[Example, list[Asked]]]]:
        for example in examples:
            query = texts.queries.get(example.query_id)
            asked = asked_of(example, texts, contributors, documents)
            if query is None:
                asked = [item._replace(text=None) for item in asked]
            pairs = [(query, item.text) for item in asked if query is not None and item.text is not None]
            yield pairs, [item.limit for item in asked if item.text is not None], (example, asked)

    return _filled(each(), pairs_a_window)


def run_windows(
    run: Iterable[tuple[str, dict[str, float]]], depth: int, texts: ScoredTexts, pairs_a_window: int
) -> Iterator[Window[tuple[str, list[str], int]]]:
    """Yield windows of whole queries of a run, which is given as (query id, hits).

    A window has pairs, limits, and (query id, documents with a text, number of those without).
    """

    def each() -> Iterator[Part[tuple[str, list[str], int]]]:
        for query_id, hits in run:
            query = texts.queries.get(query_id)
            found = {document: texts.document(document) for document in list(hits)[:depth]} if query is not None else {}
            known = {document: text for document, text in found.items() if text is not None}
            pairs = [(query, text) for text in known.values() if query is not None]
            yield pairs, [None] * len(pairs), (query_id, list(known), len(found) - len(known))

    return _filled(each(), pairs_a_window)


def _filled(parts: Iterable[Part[Scored]], pairs_a_window: int) -> Iterator[Window[Scored]]:
    pairs: list[Pair] = []
    limits: list[int | None] = []
    things: list[Scored] = []
    for more_pairs, more_limits, thing in parts:
        pairs += more_pairs
        limits += more_limits
        things.append(thing)
        if len(pairs) >= pairs_a_window:
            yield pairs, limits, things
            pairs, limits, things = [], [], []
    if things:
        yield pairs, limits, things
