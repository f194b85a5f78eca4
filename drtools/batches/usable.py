"""Which examples can be trained on with a corpus and queries at hand; what cannot is counted, never dropped in silence."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from drtools import console
from drtools.errors import UserError
from drtools.formats.examples import Example, read_examples
from drtools.formats.jsonl import read_queries
from drtools.formats.lines import shown

if TYPE_CHECKING:
    from drtools.formats.store import Store


def usable_examples(path: str, queries: str, store: Store) -> tuple[list[Example], dict[str, str]]:
    """Return the examples whose query has a text and a positive in the corpus, without the ids that the corpus lacks.

    A lacking positive stays out of training and, being no document, needs no mask.
    """
    texts = read_queries(queries)
    usable, used_texts = [], {}
    without_text = without_positive = lacking = without_negative = 0
    for example in read_examples(path):
        absent = set(store.missing([*example.positives, *example.negatives]))
        lacking += len(absent)
        positives = [document for document in example.positives if document not in absent]
        negatives = [document for document in example.negatives if document not in absent]
        if example.query_id not in texts:
            without_text += 1
        elif not positives:
            without_positive += 1
        else:
            without_negative += not negatives
            usable.append(dataclasses.replace(example, positives=positives, negatives=negatives, positive_scores=None, negative_scores=None))
            used_texts[example.query_id] = texts[example.query_id]
    console.notice(without_text, f"{without_text:,} examples have a query that {shown(queries)} lacks; left out")
    console.notice(without_positive, f"{without_positive:,} examples have no positive in the corpus; left out")
    console.notice(lacking, f"{lacking:,} documents of the examples are not in the corpus; left out")
    console.notice(without_negative, f"{without_negative:,} examples have no negative; they train on in-batch negatives alone")
    if not usable:
        raise UserError(f"{shown(path)}: no example has both a query text and a positive in the corpus; do the files belong together?")
    return usable, used_texts
