"""Leakage between training and test data: queries with the same text, and relevant documents with the same text.

Texts are compared exactly, and in plain form (formats/plain_text).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from drtools import reporting
from drtools.formats.corpora import document_text, read_queries
from drtools.formats.corpus_store import open_store
from drtools.formats.plain_text import plain_text
from drtools.formats.text_sources import check_judged, judged_queries
from drtools.formats.trec import read_qrels

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.formats.trec import Qrels

LONGEST = 60  # characters of a text that is shown


class Overlap(NamedTuple):
    """How many of `tested` texts were trained on: to the letter, and in plain form alone.

    `first` is one of them: its id, the id that it was trained on by, its text.
    """

    tested: int
    exact: int
    plain: int
    first: tuple[str, str, str] | None

    def words(self, what: str, trained: str) -> str:
        """Return the message: `3 of the 20 dev queries are training queries too (2 to the letter, ...)`."""
        one, other, text = self.first or ("", "", "")
        pair = repr(one) if one == other else f"{one!r} and {other!r}"
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
        how = (
            f"{self.exact:,} to the letter, {self.plain:,} but for case, punctuation, white space and forms of "
            "characters"
        )
        return (
            f"{self.exact + self.plain:,} of the {self.tested:,} {what} are {trained} too ({how}; for instance {pair}: "
            f"{shown!r})"
        )


@dataclass
class Trained:
    """Training data as (id, text): queries, and relevant documents, which are read only if they are needed.

    `found` is filled by `note_leakage`; `whose` follows `training queries` in messages.
    """

    queries: Iterable[tuple[str, str]]
    positives: Callable[[], Iterable[tuple[str, str]]] | None = None
    found: dict[str, dict[str, int]] = field(default_factory=dict)
    whose: str = ""


def overlap(tested: Mapping[str, str], trained: Iterable[tuple[str, str]]) -> Overlap:
    """Count the texts, given by id, that are among the training texts."""
    exact: dict[str, list[str]] = {}
    plain: dict[str, list[str]] = {}
    for text_id, text in tested.items():
        exact.setdefault(text, []).append(text_id)
        plain.setdefault(plain_text(text), []).append(text_id)
    met: dict[str, str] = {}
    met_plain: dict[str, str] = {}
    for text_id, text in trained:
        for same in exact.get(text, ()):
            met.setdefault(same, text_id)
        for same in plain.get(plain_text(text), ()):
            met_plain.setdefault(same, text_id)
    only_plain = {text_id: other for text_id, other in met_plain.items() if text_id not in met}
    first = next(((text_id, other, tested[text_id]) for text_id, other in (met | only_plain).items()), None)
    return Overlap(len(tested), len(met), len(only_plain), first)


def note_leakage(
    name: str, queries: Mapping[str, str], positives: Callable[[], Mapping[str, str]] | None, trained: Trained
) -> None:
    """Report how many of the queries called `name` (dev, test), and of their positives, were trained on.

    Equal queries are odd. Equal relevant documents are normal if queries share them, and are only reported.
    """
    of_queries = overlap(queries, trained.queries)
    count = of_queries.exact + of_queries.plain
    if count:
        reporting.notice(count, of_queries.words(f"{name} queries", f"training queries{trained.whose}"))
    trained.found["queries"] = counts_of(of_queries)
    if positives is not None and trained.positives is not None:
        of_positives = overlap(positives(), trained.positives())
        if of_positives.exact + of_positives.plain:
            reporting.say(of_positives.words(f"{name} positives", f"training positives{trained.whose}"))
        trained.found["positives"] = counts_of(of_positives)


def counts_of(found: Overlap) -> dict[str, int]:
    """Return the numbers of an overlap, for a manifest."""
    return {"tested": found.tested, "equal_to_the_letter": found.exact, "equal_in_plain_form": found.plain}


def texts_of(documents: Iterable[str], store: CorpusStore | None) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of those of the documents in the corpus. Without a corpus, the id replaces the text."""
    for document_id in documents:
        if store is None:
            yield document_id, document_id
        elif document := store.get(document_id):
            yield document_id, document_text(document.title, document.text)


def relevant_in(qrels: Qrels, least: int = 1) -> dict[str, None]:
    """Return the documents that are relevant to any query."""
    return {document: None for grades in qrels.values() for document, grade in grades.items() if grade >= least}


def compare_with_training(
    judged: Qrels,
    min_rel: int,
    queries: str,
    corpus: str | None,
    train_queries: str | None,
    train_qrels: str | None,
) -> None:
    """Report judged queries that were trained on, and with training judgements also relevant documents.

    `queries` has the texts of the judged queries, and without `train_queries` those of the training queries too.
    """
    texts = read_queries(queries)
    check_judged(judged, "the judgements", texts, queries, "; they are not compared with training queries")
    trained = Trained(judged_queries(train_queries or queries, train_qrels).items())
    positives = None
    if train_qrels:
        store = open_store(corpus) if corpus else None
        relevant = relevant_in(read_qrels(train_qrels), min_rel)
        trained.positives = lambda: texts_of(relevant, store)
        positives = lambda: dict(texts_of(relevant_in(judged, min_rel), store))  # noqa: E731
    tested = {query_id: text for query_id, text in texts.items() if query_id in judged}
    note_leakage("test", tested, positives, trained)
