"""SPAR's dev measure: how well a student imitates the ranking of its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drtools.evaluation.dev import measure_lists
from drtools.evaluation.measures import parse_measure
from drtools.formats.examples import read_examples
from drtools.formats.joins import Join
from drtools.formats.leakage import Trained, note_leakage
from drtools.methods.spar.settings import ExampleDevSpec
from drtools.models.dev_measure import DevMeasure
from drtools.randomness import generator
from drtools.training.examples import TrainingExamples, usable_examples

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair
    from drtools.training.sampling import ExampleSource


def dev_measure_on_examples(
    flags: ExampleDevSpec,
    queries_path: str,
    source: ExampleSource,
    encoder: Encoder | EncoderPair[Encoder],
    computing: Compute,
    seed: int,
    trained: Trained | None = None,
) -> DevMeasure | None:
    """Return a function that measures how well an encoder finds a teacher's first hits, or None without dev examples.

    The label of a query is its first positive, the teacher's rank 1. The corpus has all of these and one negative for
    each query, drawn with the seed. The measure is the mean reciprocal rank (Chen et al. 2022). Dev queries that are
    also in `trained` are reported.
    """
    if flags.dev_examples is None:
        return None

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
    queries = encoder.of("query").tokenize(texts, "query")
    documents = encoder.of("document").tokenize([source.text(row) for row in rows], "document")
    sides = (query_ids, queries), (list(names.values()), documents)
    return DevMeasure(
        lambda: measure_lists(encoder, computing, *sides, qrels, [parse_measure("RR")], depth=len(rows)),
        {"query": queries, "document": documents},
        f"of the teacher's first hits, over a pool of {len(rows):,} of {len(source.store):,} documents",
    )


def _with_the_first(path: str, examples: TrainingExamples, store: CorpusStore) -> list[int]:
    """Return the places of the examples whose first positive in the file is in the corpus.

    In other examples, the teacher's rank 2 would count as its rank 1.
    """
    first = {example.query_id: example.positives[0] for example in read_examples(path) if example.positives}
    names = store.ids_at([int(positives[0]) for positives in examples.positives])
    kept = [
        at for at, (query_id, name) in enumerate(zip(examples.query_ids, names, strict=True)) if name == first[query_id]
    ]
    found = Join(store, "the corpus")
    found.count(len(names), [first[examples.query_ids[at]] for at in sorted({*range(len(names))}.difference(kept))])
    found.check(
        f"{path}: no dev example has its first positive in the corpus; do the two belong together?",
        f"{found.missing:,} of the {found.asked:,} dev examples have a first positive that is not in the corpus; "
        "left out",
    )
    return kept
