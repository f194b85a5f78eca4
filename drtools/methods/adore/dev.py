"""ADORE's dev measure, on the index of the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from drtools.encoding.loop import encode_tokens
from drtools.evaluation.dev import depth_for, dev_queries, values_of
from drtools.evaluation.specs import QueryDevSpec
from drtools.formats.leakage import Trained, note_leakage, relevant_in, texts_of
from drtools.formats.text_sources import check_judged_documents
from drtools.models.dev_measure import DevMeasure
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.ids import Ids
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder


def dev_measure_on_index(
    flags: QueryDevSpec,
    queries_path: str,
    search: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    ids: Ids,
    encoder: Encoder,
    computing: Compute,
    trained: Trained | None = None,
) -> DevMeasure | None:
    """Return a function that evaluates the current query encoder on an index, or None without dev judgements.

    `search(vectors, depth)` returns scores and rows, `ids` has the ids of rows. Queries and documents (by id) that dev
    shares with `trained` are reported.
    """
    if flags.dev_qrels is None:
        return None

    measures, qrels, texts = dev_queries(flags, queries_path)
    check_judged_documents(qrels, ids, "the index")
    if trained:
        note_leakage("dev", texts, lambda: dict(texts_of(relevant_in(qrels), None)), trained)
    tokens = encoder.tokenize(list(texts.values()), "query")

    def measure() -> dict[str, float]:
        vectors = np.empty((len(texts), encoder.dimension), np.float32)
        encode_tokens(encoder, tokens, computing.in_training, vectors)
        scores, rows = search(vectors, depth_for(measures))
        return values_of(list(texts), scores, rows, ids, qrels, measures)

    return DevMeasure(measure, {"query": tokens}, f"over the index of {counted(len(ids), 'document')}")
