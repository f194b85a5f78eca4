"""Dev evaluation during training: retrieval with the current encoder, over a dev corpus or a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.encoding.loop import encode_tokens
from drtools.evaluation.measures import Measure, evaluate, mean, parse_measures
from drtools.evaluation.specs import DevSpec, QueryDevSpec
from drtools.formats.corpus_store import CorpusStore, open_store
from drtools.formats.joins import note_nothing_relevant
from drtools.formats.leakage import Trained, note_leakage, relevant_in, texts_of
from drtools.formats.text_sources import check_judged_documents, judged_queries, text_in
from drtools.formats.trec import Qrels, rank, read_qrels
from drtools.models.dev_measure import DevMeasure
from drtools.models.settings import SIDES
from drtools.models.tokens import Tokenized, TokensWithVectors, VectorsBeside
from drtools.randomness import generator
from drtools.search.exact import search
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.ids import Ids
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair

    IdsAndTokens = tuple[list[str], Tokenized]

DEPTH, UNCUT_DEPTH = 100, 1000  # of lists, at least; for measures without a cutoff


def dev_measure(
    flags: DevSpec,
    queries_path: str,
    store: CorpusStore,
    encoder: Encoder | EncoderPair[Encoder],
    computing: Compute,
    seed: int,
    title_separator: str,
    beside: VectorsBeside | None = None,
    trained: Trained | None = None,
) -> DevMeasure | None:
    """Return a function that evaluates the current encoder, or None if there are no dev judgements.

    `beside(side, ids)` returns additional vectors of texts, if the encoder takes any. Queries and documents that dev
    has in common with the training data, `trained`, are reported.
    """
    if flags.dev_qrels is None:
        return None

    measures, qrels, texts = dev_queries(flags, queries_path)
    store = store if flags.dev_corpus is None else open_store(flags.dev_corpus)
    pool = _pool(store, qrels, flags.dev_documents, seed)
    if trained:
        note_leakage("dev", texts, lambda: dict(texts_of(relevant_in(qrels), store)), trained)
    retrieval = _Retrieval(encoder, computing, store, qrels, texts, measures, seed, title_separator, beside)
    return retrieval.measure(list(texts), pool)


@dataclass(frozen=True)
class _Retrieval:
    """Dev evaluation by retrieval, of which `measure` takes queries and documents."""

    encoder: Encoder | EncoderPair[Encoder]
    computing: Compute
    store: CorpusStore
    qrels: Qrels
    texts: dict[str, str]
    measures: list[Measure]
    seed: int
    title_separator: str
    beside: VectorsBeside | None

    def measure(self, query_ids: list[str], pool: list[str]) -> DevMeasure:
        """Return the measure of these queries over these documents."""
        queries: Tokenized = self.encoder.of("query").tokenize([self.texts[each] for each in query_ids], "query")
        documents: Tokenized = self.encoder.of("document").tokenize(
            [text_in(self.store, document_id, self.title_separator) for document_id in pool], "document"
        )
        if self.beside:
            queries = TokensWithVectors(queries, self.beside("query", query_ids))  # type: ignore[arg-type]
            documents = TokensWithVectors(documents, self.beside("document", pool))  # type: ignore[arg-type]
        qrels = {query_id: self.qrels[query_id] for query_id in query_ids}
        sides = (query_ids, queries), (pool, documents)
        depth = depth_for(self.measures)
        return DevMeasure(
            lambda: measure_lists(self.encoder, self.computing, *sides, qrels, self.measures, depth),
            {"query": queries, "document": documents},
            self._over(query_ids, pool),
            lambda share: self._smaller(query_ids, pool, share),
        )

    def _over(self, query_ids: list[str], pool: list[str]) -> str:
        every = len(self.store)
        words = (
            f"over the whole corpus of {counted(every, 'document')}"
            if len(pool) == every
            else f"over a pool of {len(pool):,} of {counted(every, 'document')}"
        )
        few = len(query_ids) < len(self.texts)
        return f"{words}, for {len(query_ids):,} of {len(self.texts):,} queries" if few else words

    def _smaller(self, query_ids: list[str], pool: list[str], share: float) -> DevMeasure:
        """Leave out random documents first, then queries with the documents that are judged for them alone."""
        room = max(2, round(share * (len(query_ids) + len(pool))))
        there, kept, chosen = set(pool), dict[str, None](), list[str]()
        for at in generator(self.seed, "dev queries").permutation(len(query_ids)).tolist():
            judged = [document for document in self.qrels[query_ids[at]] if document in there]
            if chosen and len(chosen) + 1 + len({*kept, *judged}) > room:
                break
            kept |= dict.fromkeys(judged)
            chosen.append(query_ids[at])
        selected = set(chosen)
        documents = list(dict.fromkeys([*kept, *pool]))[: max(len(kept), room - len(chosen))]
        return self.measure([each for each in query_ids if each in selected], documents)


def depth_for(measures: Sequence[Measure]) -> int:
    """Return how many documents a query's list needs for these measures."""
    return max(DEPTH, *(measure.k or UNCUT_DEPTH for measure in measures))


def dev_queries(flags: QueryDevSpec, queries_path: str) -> tuple[list[Measure], Qrels, dict[str, str]]:
    """Return the measures, the dev qrels by query, and the texts of their queries."""
    assert flags.dev_qrels is not None, "only called with dev judgements"
    qrels = read_qrels(flags.dev_qrels)
    note_nothing_relevant(qrels, flags.dev_qrels)
    texts = judged_queries(flags.dev_queries or queries_path, flags.dev_qrels)
    return (
        parse_measures(flags.dev_measures),
        {query_id: qrels[query_id] for query_id in texts},
        texts,
    )


def values_of(
    query_ids: Sequence[str],
    scores: np.ndarray,
    rows: np.ndarray,
    ids: Sequence[str] | Ids,
    qrels: Qrels,
    measures: Sequence[Measure],
) -> dict[str, float]:
    """Return the measures of lists: scores and rows [Q, K], a row -1 where a list ends."""
    run = {
        query_id: rank(
            {ids[row]: float(score) for row, score in zip(rows[at].tolist(), scores[at], strict=True) if row >= 0}
        )
        for at, query_id in enumerate(query_ids)
    }
    return {name: mean(by_query) for name, by_query in evaluate(qrels, run, measures).items()}


def _pool(store: CorpusStore, qrels: Qrels, size: int, seed: int) -> list[str]:
    judged = check_judged_documents(qrels, store, "the corpus")
    if not size or size >= len(store):
        return [document.id for document in store.rows()]
    drawn = np.random.default_rng(seed).choice(len(store), size, replace=False)
    return list(dict.fromkeys([*judged, *store.ids_at(drawn.tolist())]))[: max(size, len(judged))]


def measure_lists(
    encoder: Encoder | EncoderPair[Encoder],
    computing: Compute,
    queries: IdsAndTokens,
    documents: IdsAndTokens,
    qrels: Qrels,
    measures: Sequence[Measure],
    depth: int,
) -> dict[str, float]:
    """Encode queries and documents, given with their ids, with the current encoder, and measure the lists."""
    (query_ids, query_tokens), (pool, document_tokens) = queries, documents
    vectors = [
        np.empty((len(tokens.lengths), encoder.dimension), np.float32) for tokens in (query_tokens, document_tokens)
    ]
    with reporting.progress("evaluating on dev", sum(map(len, vectors)), "texts") as progress:
        for side, tokens, into in zip(SIDES, (query_tokens, document_tokens), vectors, strict=True):
            encode_tokens(
                encoder.of(side), tokens, computing.in_training, into, lambda rows, _: progress.advance(len(rows))
            )
    scores, rows = search(vectors[1], vectors[0], depth, device=computing.device)
    return values_of(query_ids, scores, rows, pool, qrels, measures)
