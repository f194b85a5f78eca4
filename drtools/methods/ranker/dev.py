"""Dev evaluation of a ranker during training.

The current ranker re-ranks a run, or the documents of examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.encoding.loop import encode_tokens
from drtools.errors import InputError, param
from drtools.evaluation.dev import dev_queries
from drtools.evaluation.measures import Measure, evaluate, mean, parse_measures
from drtools.formats.corpora import read_queries
from drtools.formats.corpus_store import CorpusStore, open_store
from drtools.formats.examples import read_examples
from drtools.formats.joins import Join, note_nothing_judged
from drtools.formats.leakage import Trained, note_leakage, relevant_in, texts_of
from drtools.formats.lines import shown
from drtools.formats.text_sources import text_in
from drtools.formats.trec import Qrels, rank, read_run
from drtools.methods.ranker.settings import RankerDevSpec
from drtools.models.dev_measure import DevMeasure
from drtools.models.pair_tokens import tokenize_pairs
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.models.cross_encoder_model import CrossEncoder


def dev_ranking(
    flags: RankerDevSpec,
    queries_path: str,
    store: CorpusStore,
    encoder: CrossEncoder,
    computing: Compute,
    title_separator: str,
    trained: Trained | None = None,
) -> DevMeasure | None:
    """Return a function that evaluates the current ranker, or None if there is nothing to rank.

    Queries and documents that dev shares with `trained` are reported.
    """
    named = flags.dev_run or flags.dev_examples
    if named is None:
        return None
    if flags.dev_run:
        measures, qrels, texts = dev_queries(flags, queries_path)
        run = read_run(flags.dev_run)
        asked = Join(run, shown(flags.dev_run), texts)
        asked.check(
            f"{shown(flags.dev_run)}: no document to rank for the dev queries; do the files belong together?",
            f"{asked.missing:,} of the {asked.asked:,} dev queries are not in {shown(flags.dev_run)}; they count 0",
        )
        candidates = {query_id: list(run.get(query_id, {}))[: flags.dev_depth] for query_id in texts}
        note_nothing_judged(shown(flags.dev_run), run, qrels, f"{param('dev_qrels')}")
    else:
        measures = parse_measures(flags.dev_measures)
        qrels, candidates, texts = _of_examples(named, flags.dev_queries or queries_path)
    if not any(candidates.values()):
        raise InputError("no document to rank for the dev queries; do the files belong together?", where=shown(named))
    store = store if flags.dev_corpus is None else open_store(flags.dev_corpus)
    if trained:
        note_leakage("dev", texts, lambda: dict(texts_of(relevant_in(qrels), store)), trained)
    return _measure(candidates, texts, qrels, measures, store, encoder, computing, title_separator)


def _of_examples(path: str, queries: str) -> tuple[dict[str, dict[str, int]], dict[str, list[str]], dict[str, str]]:
    """Return qrels, documents and query texts of examples, whose positives are relevant."""
    texts = read_queries(queries)
    examples = {example.query_id: example for example in read_examples(path)}
    asked = Join(texts, shown(queries), examples)
    asked.check(
        f"{shown(path)}: none of its queries is in {shown(queries)}; do the two belong together?",
        f"{counted(asked.missing, 'dev example has', 'dev examples have')} a query that is not in {shown(queries)}; "
        "left out",
    )
    known = {query_id: example for query_id, example in examples.items() if query_id in texts}
    return (
        {query_id: dict.fromkeys(example.positives, 1) for query_id, example in known.items()},
        {query_id: [*example.positives, *example.negatives] for query_id, example in known.items()},
        {query_id: texts[query_id] for query_id in known},
    )


def _measure(
    candidates: Mapping[str, Sequence[str]],
    texts: Mapping[str, str],
    qrels: Qrels,
    measures: Sequence[Measure],
    store: CorpusStore,
    encoder: CrossEncoder,
    computing: Compute,
    title_separator: str,
) -> DevMeasure:
    found = Join(store, shown(store.corpus))
    missing = set(found.look_up({document: None for documents in candidates.values() for document in documents}))
    found.check(
        f"none of the documents to rank on dev is in {found.name}; do the files belong together?",
        f"{counted(found.missing, 'document to rank on dev is', 'documents to rank on dev are')} not in the corpus; "
        "left out",
    )
    wanted = [
        (query_id, document)
        for query_id, documents in candidates.items()
        for document in documents
        if document not in missing
    ]
    reporting.say(
        f"dev: {counted(len(wanted), 'pair is', 'pairs are')} scored at each evaluation (see "
        f"{param('evaluate_every_steps')})"
    )
    tokens = tokenize_pairs(
        encoder, [(texts[query_id], text_in(store, document, title_separator)) for query_id, document in wanted]
    )

    def measure() -> dict[str, float]:
        logits = np.empty((len(wanted), 1), np.float32)
        with reporting.progress("evaluating on dev", len(wanted), "pairs") as progress:
            encode_tokens(encoder, tokens, computing.in_training, logits, lambda rows, _: progress.advance(len(rows)))
        run: dict[str, dict[str, float]] = {query_id: {} for query_id in texts}
        for (query_id, document), logit in zip(wanted, logits[:, 0].tolist(), strict=True):
            run[query_id][document] = logit
        ranked = {query_id: rank(scores) for query_id, scores in run.items()}
        return {name: mean(by_query) for name, by_query in evaluate(qrels, ranked, measures).items()}

    return DevMeasure(measure, {"pair": tokens}, f"of {counted(len(wanted), 'pair')} that are ranked again")
