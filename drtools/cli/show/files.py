"""Display of files: examples, runs and judgements, with the texts of their ids."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from drtools import reporting
from drtools.cli.show.hits import snippet
from drtools.cli.show.lineage import CORPUS_FLAGS, QUERIES_FLAGS, source
from drtools.errors import InputError
from drtools.formats.corpora import read_corpus, read_queries
from drtools.formats.corpus_store import CorpusStore, open_store
from drtools.formats.dark_items import Dark, Noisy
from drtools.formats.examples import Example, parse_example
from drtools.formats.json_lines import read_json_lines
from drtools.formats.lines import read_lines, shown
from drtools.formats.trec import read_qrels, read_run
from drtools.units import counted

LONGEST = 160  # characters of a text
Item = TypeVar("Item")


class TextsBehind(NamedTuple):
    """The texts of ids, from a corpus and queries if they are available."""

    store: CorpusStore | None
    queries: dict[str, str]

    def query(self, query_id: str) -> str:
        """Return a query's id and text."""
        return f"{query_id}  {self.queries.get(query_id, '')}".rstrip()

    def document(self, document_id: str, words: str = "") -> str:
        """Return a document's id, title and the passage of its text with the most of the words."""
        document = self.store.get(document_id) if self.store else None
        if document is None:
            return f"{document_id}  (not in the corpus)" if self.store else document_id
        return "  ".join(filter(None, [document_id, document.title, snippet(document.text, words, LONGEST)]))


def texts_behind(artefact: Path, corpus: str | None, queries: str | None) -> TextsBehind:
    """Open the given files, or else those from which the artefact was made; print a note if neither is available."""
    corpus, queries = corpus or source(artefact, CORPUS_FLAGS), queries or source(artefact, QUERIES_FLAGS)
    if not corpus and not queries:
        reporting.say(
            "note: no texts, because the corpus and the queries that it was made from are not available "
            "or have changed; "
            "use --corpus and --queries"
        )
    return TextsBehind(open_store(corpus) if corpus else None, read_queries(queries) if queries else {})


def example_lines(path: Path, texts: TextsBehind, query: str | None, count: int, depth: int) -> Iterator[str]:
    """Yield the first examples, or that of a query.

    Texts and scores of positives, negatives and dark items, `depth` of each.
    """
    examples = (parse_example(record, path, number) for number, record in read_json_lines(path))
    for example in _chosen(examples, path, query, count, lambda example: example.query_id):
        yield from _example(example, texts, depth)


def _chosen(
    items: Iterator[Item], path: Path, query: str | None, count: int, query_of: Callable[[Item], str]
) -> Iterator[Item]:
    if query is None:
        return itertools.islice(items, count)
    found = [item for item in items if query_of(item) == query]
    if not found:
        raise InputError(
            f"there is no query {query!r}", where=shown(path), remedy="leave --query out to see the first ones"
        )
    return iter(found[:1])


def _example(example: Example, texts: TextsBehind, depth: int) -> Iterator[str]:
    words = texts.queries.get(example.query_id, "")
    yield f"{texts.query(example.query_id)}" + (f"  [scored by {example.scored_by}]" if example.scored_by else "")
    groups = (
        ("+", "positives", example.positives, example.positive_scores),
        ("-", "negatives", example.negatives, example.negative_scores),
    )
    for sign, name, ids, scores in groups:
        for document_id, score in list(zip(ids, scores or [None] * len(ids), strict=True))[:depth]:
            yield f"  {sign} {_number(score)}  {texts.document(document_id, words)}"
        if len(ids) > depth:
            yield f"  {sign} … {len(ids) - depth:,} more {name}"
    dark = example.dark or []
    for item, score in list(zip(dark, example.dark_scores or [None] * len(dark), strict=True))[:depth]:
        yield f"  ~ {_number(score)}  {_dark(item)}"
    if len(dark) > depth:
        yield f"  ~ … {len(dark) - depth:,} more dark items"
    for name, value in example.others.items():
        yield f"    {name}: {f'{len(value):,} of them' if isinstance(value, list) else value}"


def _dark(item: Dark) -> str:
    if isinstance(item, Noisy):
        return f"noisy positive: {item.positive} with {item.ratio:.0%} of its words masked (seed {item.seed})"
    return f"reinforced negative: {item.negative} after {item.positive}"


def _number(score: float | None) -> str:
    return f"{score:9.4f}" if score is not None else " " * 9


def run_lines(path: Path, texts: TextsBehind, query: str | None, count: int, depth: int) -> Iterator[str]:
    """Yield the best hits of the first queries of a run, or of one."""
    run = read_run(path)
    hits = sum(map(len, run.values()))
    yield f"{counted(len(run), 'query', 'queries')}, {counted(hits, 'hit')}"
    for query_id, documents in _chosen(iter(run.items()), path, query, count, lambda item: item[0]):
        yield texts.query(query_id)
        for place, (document_id, score) in enumerate(itertools.islice(documents.items(), depth), start=1):
            yield f"  {place:>3} {_number(score)}  {texts.document(document_id, texts.queries.get(query_id, ''))}"


def judgement_lines(path: Path, texts: TextsBehind, query: str | None, count: int, depth: int) -> Iterator[str]:
    """Yield the judged documents of the first queries, or of one."""
    qrels = read_qrels(path)
    yield f"{counted(len(qrels), 'query', 'queries')}, {counted(sum(map(len, qrels.values())), 'judgement')}"
    for query_id, grades in _chosen(iter(qrels.items()), path, query, count, lambda item: item[0]):
        yield texts.query(query_id)
        for document_id, grade in itertools.islice(grades.items(), depth):
            yield f"  {grade:>3}  {texts.document(document_id, texts.queries.get(query_id, ''))}"


def text_lines(path: Path, count: int) -> Iterator[str]:
    """Yield the first documents of a corpus, or queries."""
    for _, document in itertools.islice(read_corpus(path), count):
        yield "  ".join(filter(None, [document.id, document.title, snippet(document.text, "", LONGEST)]))


def raw_lines(path: Path, count: int) -> Iterator[str]:
    """Yield the first lines of a file as they are, cut."""
    for _, line in itertools.islice(read_lines(path), count):
        text = line.decode(errors="replace")
        yield text[:LONGEST] + (" …" if len(text) > LONGEST else "")
