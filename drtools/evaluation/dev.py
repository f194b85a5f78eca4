"""Dev evaluation during training: real retrieval by the encoder as it stands, over a dev corpus or a pool of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Option

from drtools.cli.flags.common import Role
from drtools.formats.joins import Join, note_nothing_relevant
from drtools.formats.text_sources import check_judged_documents

if TYPE_CHECKING:
    from drtools.encoding.loop import Computing
    from drtools.evaluation.leakage import Trained
    from drtools.evaluation.measures import Measure
    from drtools.formats.corpus_store import Store
    from drtools.formats.trec import Qrels
    from drtools.formats.vectors import Ids
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair
    from drtools.models.tokens import Tokenized
    from drtools.training.examples import Usable
    from drtools.training.sampling import Source

PANEL = "Dev evaluation"
DEPTH, UNCUT_DEPTH = 100, 1000  # of lists, at the least; for measures without a cutoff


@dataclass
class QueryDevFlags:
    """Which queries to measure on while training; the first measure decides what is best."""

    dev_qrels: Annotated[
        str | None, Option(help="judgements to evaluate on while training", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="their queries; default: --queries", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_measures: Annotated[str, Option(help="measures, the deciding one first", rich_help_panel=PANEL)] = (
        "nDCG@10,RR@10"
    )


@dataclass
class DevFlags(QueryDevFlags):
    """The same, with the documents that are searched."""

    dev_corpus: Annotated[
        str | None, Option(help="their corpus; default: --corpus", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_documents: Annotated[
        int,
        Option(
            min=0,
            help="size of the pool: all judged documents and a random rest; 0: the whole corpus",
            rich_help_panel=PANEL,
        ),
    ] = 2000


@dataclass
class ExampleDevFlags:
    """Examples to measure on while training, labelled by rank."""

    dev_examples: Annotated[
        str | None,
        Option(help="examples mined by rank, of other queries, to evaluate on while training", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="their queries; default: --queries", rich_help_panel=PANEL), Role.INPUT
    ] = None


def dev_measure_on_examples(
    flags: ExampleDevFlags,
    queries_path: str,
    source: Source,
    encoder: Encoder | EncoderPair[Encoder],
    computing: Computing,
    seed: int,
    trained: Trained | None = None,
) -> Callable[[], dict[str, float]] | None:
    """Return a function that measures how well the encoder finds a teacher's first hits, or None without dev examples.

    Each query's first positive, the teacher's rank 1, is its label; the corpus is all of these and one negative a
    query, drawn by the seed; the measure is the mean reciprocal rank (Chen et al. 2022). Dev queries that are `trained`
    on are reported.
    """
    if flags.dev_examples is None:
        return None
    import numpy as np

    from drtools.evaluation.leakage import note_leakage
    from drtools.evaluation.measures import parse_measure
    from drtools.models.tokens import tokenize
    from drtools.randomness import generator
    from drtools.training.examples import usable_examples

    examples = usable_examples(flags.dev_examples, flags.dev_queries or queries_path, source.store)
    found = _with_the_first(flags.dev_examples, examples, source.store)
    query_ids, texts, labels = (
        [examples.query_ids[at] for at in found],
        [examples.queries[at] for at in found],
        [int(examples.positives[at][0]) for at in found],
    )
    if trained:
        note_leakage("dev", dict(zip(query_ids, texts, strict=True)), None, trained)
    drawn = [
        int(generator(seed, "dev", examples.query_ids[at]).choice(examples.negatives[at]))
        for at in found
        if len(examples.negatives[at])
    ]
    rows = np.union1d(labels, drawn).astype(np.int64).tolist()
    names = dict(zip(rows, source.store.ids_at(rows), strict=True))
    qrels = {query_id: {names[label]: 1} for query_id, label in zip(query_ids, labels, strict=True)}
    queries = tokenize(encoder.of("query"), texts, "query")
    documents = tokenize(encoder.of("document"), [source.text(row) for row in rows], "document")
    return lambda: _measure(
        encoder,
        computing,
        (query_ids, queries),
        (list(names.values()), documents),
        qrels,
        [parse_measure("RR")],
        depth=len(rows),
    )


def _with_the_first(path: str, examples: Usable, store: Store) -> list[int]:
    """Return the places of the examples whose first positive in the file is in the corpus.

    Else the teacher's rank 2 would pass for its rank 1.
    """
    from drtools.formats.examples import read_examples

    first = {example.query_id: example.positives[0] for example in read_examples(path) if example.positives}
    names = store.ids_at([int(positives[0]) for positives in examples.positives])
    kept = [
        at for at, (query_id, name) in enumerate(zip(examples.query_ids, names, strict=True)) if name == first[query_id]
    ]
    found = Join(store, "the corpus")
    found.count(len(names), [first[examples.query_ids[at]] for at in sorted({*range(len(names))}.difference(kept))])
    found.check(
        f"{path}: no dev example has its first positive in the corpus; do the two belong together?",
        f"{found.missing:,} of the {found.asked:,} dev examples have a first positive that is not in the corpus; not "
        "measured on",
    )
    return kept


def dev_measure(
    flags: DevFlags,
    queries_path: str,
    store: Store,
    encoder: Encoder | EncoderPair[Encoder],
    computing: Computing,
    seed: int,
    title_separator: str,
    beside: Callable | None = None,
    trained: Trained | None = None,
) -> Callable[[], dict[str, float]] | None:
    """Return a function that measures the encoder as it stands, or None if no dev judgements were named.

    `beside(side, ids)` gives vectors that go with texts, if the encoder takes any. What dev has in common with what is
    `trained` on is reported.
    """
    if flags.dev_qrels is None:
        return None
    from drtools.evaluation.leakage import note_leakage, relevant_in, texts_of
    from drtools.formats.corpus_store import open_store
    from drtools.formats.text_sources import text_in
    from drtools.models.tokens import Accompanied, tokenize

    measures, qrels, texts = judged(flags, queries_path)
    store = store if flags.dev_corpus is None else open_store(flags.dev_corpus)
    pool = _pool(store, qrels, flags.dev_documents, seed)
    if trained:
        note_leakage("dev", texts, lambda: dict(texts_of(relevant_in(qrels), store)), trained)
    of_queries = tokenize(encoder.of("query"), list(texts.values()), "query")
    of_documents = tokenize(
        encoder.of("document"), [text_in(store, document_id, title_separator) for document_id in pool], "document"
    )
    query_tokens: Tokenized = Accompanied(of_queries, beside("query", list(texts))) if beside else of_queries
    document_tokens: Tokenized = Accompanied(of_documents, beside("document", pool)) if beside else of_documents
    return lambda: _measure(
        encoder, computing, (list(texts), query_tokens), (pool, document_tokens), qrels, measures, depth_for(measures)
    )


def dev_measure_on_index(
    flags: QueryDevFlags,
    queries_path: str,
    search: Callable,
    ids: Ids,
    encoder: Encoder,
    computing: Computing,
    trained: Trained | None = None,
) -> Callable[[], dict[str, float]] | None:
    """Return a function that measures the query encoder as it stands on an index, or None without dev judgements.

    `search(vectors, depth)` gives scores and rows, `ids` the rows' names. What dev has in common with what is `trained`
    on is reported, documents by their ids.
    """
    if flags.dev_qrels is None:
        return None
    import numpy as np

    from drtools.encoding.loop import encode_tokens
    from drtools.evaluation.leakage import note_leakage, relevant_in, texts_of
    from drtools.models.tokens import tokenize

    measures, qrels, texts = judged(flags, queries_path)
    check_judged_documents(qrels, ids, "the index")
    if trained:
        note_leakage("dev", texts, lambda: dict(texts_of(relevant_in(qrels), None)), trained)
    tokens = tokenize(encoder, list(texts.values()), "query")

    def measure() -> dict[str, float]:
        vectors = np.empty((len(texts), encoder.dimension), np.float32)
        encode_tokens(encoder, tokens, computing.in_training, vectors)
        scores, rows = search(vectors, depth_for(measures))
        return _values(list(texts), scores, rows, ids, qrels, measures)

    return measure


def depth_for(measures: list[Measure]) -> int:
    """Return how many documents a query's list needs for these measures."""
    return max(DEPTH, *(measure.k or UNCUT_DEPTH for measure in measures))


def judged(flags: QueryDevFlags, queries_path: str) -> tuple[list[Measure], Qrels, dict[str, str]]:
    """Return the measures, the dev qrels by query, and the texts of their queries."""
    from drtools.evaluation.measures import parse_measure
    from drtools.formats.text_sources import judged_queries
    from drtools.formats.trec import read_qrels

    assert flags.dev_qrels is not None, "asked for where they were named"
    qrels = read_qrels(flags.dev_qrels)
    note_nothing_relevant(qrels, flags.dev_qrels)
    texts = judged_queries(flags.dev_queries or queries_path, flags.dev_qrels)
    return (
        [parse_measure(word.strip()) for word in flags.dev_measures.split(",")],
        {query_id: qrels[query_id] for query_id in texts},
        texts,
    )


def _values(query_ids, scores, rows, ids, qrels, measures) -> dict[str, float]:
    from drtools.evaluation.measures import evaluate, mean
    from drtools.formats.trec import rank

    run = {
        query_id: rank(
            {ids[row]: float(score) for row, score in zip(rows[at].tolist(), scores[at], strict=True) if row >= 0}
        )
        for at, query_id in enumerate(query_ids)
    }
    return {name: mean(by_query) for name, by_query in evaluate(qrels, run, measures).items()}


def _pool(store: Store, qrels: dict[str, dict[str, int]], size: int, seed: int) -> list[str]:
    import numpy as np

    judged = check_judged_documents(qrels, store, "the corpus")
    if not size or size >= len(store):
        return [document.id for document in store.rows()]
    drawn = np.random.default_rng(seed).choice(len(store), size, replace=False)
    return list(dict.fromkeys([*judged, *store.ids_at(drawn.tolist())]))[: max(size, len(judged))]


def _measure(encoder, computing, queries, documents, qrels, measures, depth) -> dict[str, float]:
    import numpy as np

    from drtools.encoding.loop import encode_tokens
    from drtools.models.settings import SIDES
    from drtools.search.exact import search

    (query_ids, query_tokens), (pool, document_tokens) = queries, documents
    vectors = [
        np.empty((len(tokens.lengths), encoder.dimension), np.float32) for tokens in (query_tokens, document_tokens)
    ]
    for side, tokens, into in zip(SIDES, (query_tokens, document_tokens), vectors, strict=True):
        encode_tokens(encoder.of(side), tokens, computing.in_training, into)
    scores, rows = search(vectors[1], vectors[0], depth, device=computing.device)
    return _values(query_ids, scores, rows, pool, qrels, measures)
