"""Scoring of a run's documents with an encoder, from their vectors or from their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.formats.corpus_store import open_store
from drtools.formats.identical import without_own
from drtools.formats.joins import Join, KnownIds
from drtools.formats.lines import shown
from drtools.formats.text_sources import text_in
from drtools.formats.trec import Run, rank, read_run
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.search.sources import DenseSource, Found
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.models.tokens import Tokenized

QUERIES_A_BLOCK = 256  # divides the block size of searching, after which a search is saved


def check_run(name: str, run: Run, query_ids: Sequence[str], documents: KnownIds, whose: str) -> None:
    """Raise InputError for a run of other queries or documents, and report the queries that it does not have."""
    found = Join(run, name, query_ids)
    found.check(
        f"{name}: holds none of these queries; do they belong together?",
        f"{name} does not have {found.missing:,} of the {found.asked:,} queries; there is nothing to re-rank for them",
    )
    Join(documents, whose).require_one(
        (document for query_id in query_ids for document in run.get(query_id, ())),
        f"{name}: none of its documents is in {whose}; do the two belong together?",
    )


def candidates_of(
    run: Run, queries: Sequence[tuple[str, str]], depth: int, ignore_identical: bool
) -> dict[str, list[str]]:
    """Return each query's first `depth` documents, without the one with its own id if that is ignored."""
    found = {query_id: run.get(query_id, {}) for query_id, _ in queries}
    if ignore_identical:
        found = {query_id: without_own(query_id, hits) for query_id, hits in found.items()}
    return {query_id: list(hits)[:depth] for query_id, hits in found.items()}


def note_documents(count: int, parts: Sequence[Tokenized]) -> None:
    """Report truncated and empty documents."""
    truncated, empty = sum(part.truncated for part in parts), sum(part.empty for part in parts)
    reporting.notice(
        truncated, f"{truncated:,} of the {count:,} documents encoded were longer than their limit and were cut"
    )
    reporting.notice(empty, f"{empty:,} of the {count:,} documents encoded are empty")


class VectorsReranker:
    """A run's documents scored by their vectors."""

    def __init__(self, run: str, dense: DenseSource) -> None:
        self.run, self.dense, self.record, self.noted = read_run(run), dense, dense.record, dense.noted
        self.documents, self.whose = dense.documents, dense.whose
        self.ignore_identical = False  # whether the document with the query's own id is left out
        self.written: Sequence[tuple[str, str]] = ()  # queries that an earlier process ranked; they are counted too

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Yield each query's documents in the encoder's order; documents without a vector are counted and left out."""
        found = Join(self.documents, self.whose)
        for documents in candidates_of(self.run, self.written, depth, self.ignore_identical).values():
            found.count(len(documents), [document for document in documents if document not in self.documents])
        for start in range(0, len(queries), QUERIES_A_BLOCK):
            block = queries[start : start + QUERIES_A_BLOCK]
            candidates = candidates_of(self.run, block, depth, self.ignore_identical)
            scores = self.dense.scores(block, candidates)
            for (query_id, _), by_document in zip(block, scores, strict=True):
                self.noted["identical"] += self.ignore_identical and query_id in self.run.get(query_id, ())
                known = {document: score for document, score in by_document.items() if score is not None}
                found.count(len(by_document), [document for document in by_document if document not in known])
                yield Found(query_id, rank(known), {})
        found.note(
            f"{counted(found.missing, 'document of the run has', 'documents of the run have')} no vector; left out"
        )


class CorpusReranker:
    """A run's documents scored by encoding their texts; each document is encoded once."""

    def __init__(
        self, run: str, corpus: str, encoder_flags: EncoderSpec, compute: ComputeSpec, title_separator: str
    ) -> None:
        from drtools.models.compute import settle
        from drtools.models.loader import check_title_separator, load_for_encoding

        self.run, self.store, self.separator = read_run(run), open_store(corpus), title_separator
        self.documents, self.whose = self.store, shown(corpus)
        self.ignore_identical = False
        self.written: Sequence[tuple[str, str]] = ()
        self.computing = settle(compute)
        self.encoder = load_for_encoding(encoder_flags, self.computing)
        check_title_separator(self.encoder.of("document"), title_separator)
        self.record = {"corpus": corpus}
        self.noted: Counter[str] = Counter()

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Encode the queries and all documents in their lists, and score each pair."""
        import numpy as np

        from drtools.encoding.loop import encode_texts

        candidates = candidates_of(self.run, queries, depth, self.ignore_identical)
        union = dict.fromkeys(document for documents in candidates.values() for document in documents)
        before = candidates_of(self.run, self.written, depth, self.ignore_identical).values()
        others = dict.fromkeys(document for documents in before for document in documents if document not in union)
        found = Join(self.documents, self.whose)
        missing = set(found.look_up([*others, *union]))
        found.note(
            f"{counted(found.missing, 'document of the run is', 'documents of the run are')} not in the "
            "corpus; left out"
        )
        known, ranked = ([document for document in part if document not in missing] for part in (union, others))
        row_of = {document: row for row, document in enumerate(known)}
        encoder = self.encoder.of("document")

        def texts_of(documents: list[str]) -> list[str]:
            return [text_in(self.store, document, self.separator) for document in documents]

        vectors, tokens = encode_texts(encoder, texts_of(known), "document", self.computing)
        note_documents(len(known) + len(ranked), [tokens, encoder.tokenize(texts_of(ranked), "document")])
        for start in range(0, len(queries), QUERIES_A_BLOCK):
            block = queries[start : start + QUERIES_A_BLOCK]
            query_vectors, tokens = encode_texts(
                self.encoder.of("query"), [text for _, text in block], "query", self.computing
            )
            self.noted.update(truncated=tokens.truncated, empty=tokens.empty)
            for (query_id, _), vector in zip(block, query_vectors, strict=True):
                self.noted["identical"] += self.ignore_identical and query_id in self.run.get(query_id, ())
                documents = [document for document in candidates[query_id] if document in row_of]
                scores = vectors[np.array([row_of[document] for document in documents], np.int64)] @ vector
                yield Found(query_id, rank(dict(zip(documents, scores.tolist(), strict=True))), {})
