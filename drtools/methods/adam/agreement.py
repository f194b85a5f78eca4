"""Scores of a student for the items that a teacher has scored, from an encoder or a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools import reporting
from drtools.encoding.loop import encode_texts, encode_tokens
from drtools.errors import InputError, param
from drtools.formats.corpora import read_queries
from drtools.formats.corpus_store import open_store
from drtools.formats.dark_items import documents_of
from drtools.formats.examples import Example, read_examples
from drtools.formats.joins import Join
from drtools.formats.lines import shown
from drtools.methods.adam.dark import Special, dark_text_for, reinforced_tokens, special_of_encoder
from drtools.models.compute import Compute, settle
from drtools.models.lexical import LexicalEncoder
from drtools.models.loader import load_for_encoding
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.outputs import manifest
from drtools.outputs.records import checked
from drtools.teachers.windows import ScoredTexts, documents_in
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.dark_items import Dark
    from drtools.formats.trec import Run
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair

EXAMPLES_A_WINDOW = 512
PLAIN, DARK = "positive, negatives", "positive, negatives, dark"
Lists = dict[str, list[tuple[list[float], list[float], float]]]


class ScoredItem(NamedTuple):
    """A document, or a dark item, with its teacher's score."""

    item: str | Dark
    score: float


def scored_items(example: Example) -> list[ScoredItem]:
    """Return the items of an example that its teacher scored: positives, negatives, dark items."""
    parts = (
        (example.positives, example.positive_scores),
        (example.negatives, example.negative_scores),
        (example.dark or [], example.dark_scores),
    )
    return [
        ScoredItem(item, score)
        for items, scores in parts
        for item, score in zip(items, scores or (), strict=False)
        if score is not None
    ]


def beside_teacher(
    path: str,
    runs: dict[str, Run],
    students: dict[str, str],
    corpus: str | None,
    queries: str | None,
    title_separator: str,
    scale: float | None,
    compute: ComputeSpec,
    max_document_tokens: int | None = None,
) -> dict[str, Lists]:
    """Return {label: lists} with the scores of runs and encoders, and those of the examples' teacher.

    Raises InputError if the examples have no teacher's scores.
    """
    scored = list(read_examples(path))
    if not any(example.scored_by for example in scored):
        raise InputError(
            "its scores are not from a teacher (scored_by is missing)",
            where=shown(path),
            remedy="run teacher-score on it",
        )
    found = {label: lists_by_run(scored, run, label, 1.0 if scale is None else scale) for label, run in runs.items()}
    if students:
        assert corpus is not None and queries is not None, "students read texts"
        texts, computing = ScoredTexts(read_queries(queries), open_store(corpus), title_separator), settle(compute)
        for label, name in students.items():
            encoder = load_for_encoding(EncoderSpec(model=name, max_document_tokens=max_document_tokens), computing)
            found[label] = lists_by_encoder(
                scored, texts, encoder, name, computing, trained_scale(name) if scale is None else scale
            )
    return found


def trained_scale(name: str) -> float | None:
    """Return the factor applied to an encoder's scores in its training, if its folder records it."""
    known = Path(name) / manifest.NAME
    scale = manifest.read_manifest(known).get("scale") if known.exists() else None
    return None if scale is None else checked(scale, float, known, f"pass {param('scale')}, or make the encoder again")


def lists_by_run(examples: Iterable[Example], run: Run, label: str, scale: float) -> Lists:
    """Return the lists of at least two documents that both the teacher and a run have scored.

    A list is (teacher's scores, run's scores, scale).
    """
    lists: Lists = {PLAIN: []}
    join = Join(next((hits for hits in run.values() if hits), {}), label)  # any list, to show an id
    for example in examples:
        hits = run.get(example.query_id, {})
        asked = [(one.item, one.score) for one in scored_items(example) if isinstance(one.item, str)]
        both = [(score, hits[item]) for item, score in asked if item in hits]
        join.count(len(asked), [item for item, _ in asked if item not in hits])
        if len(both) > 1:
            lists[PLAIN].append(([told for told, _ in both], [own for _, own in both], scale))
    if not lists[PLAIN]:
        raise InputError(
            "no query has two documents that both the teacher and the run have scored",
            remedy=(
                f"make the run with search {param('rerank')}, from a run with the examples' documents {join.pair()}"
            ),
        )
    join.note(
        f"{label}: {join.missing:,} of the {join.asked:,} documents that the teacher scored are not among the hits "
        "of their query; left out"
    )
    return lists


def with_a_query(examples: Sequence[Example], texts: ScoredTexts) -> list[Example]:
    """Return the examples whose query has a text, and report the others."""
    asked = Join(texts.queries, "the queries' file")
    known = [example for example in examples if not asked.look_up([example.query_id])]
    asked.check(
        "no example has a query with a text; do the examples and the queries belong together?",
        f"{counted(asked.missing, 'example has', 'examples have')} a query without a text; left out",
    )
    return known


def lists_by_encoder(
    examples: Sequence[Example],
    texts: ScoredTexts,
    encoder: Encoder | EncoderPair[Encoder] | EncoderPair[LexicalEncoder],
    name: str,
    computing: Compute,
    scale: float | None,
) -> Lists:
    """Return the lists that a teacher has scored, with the scores of an encoder.

    There are lists of documents only and, if there are dark items, of documents and dark items.

    `scale` multiplies the encoder's scores; None is a training's default. Documents that are not in the corpus are left
    out and reported.
    """
    document = encoder.of("document")
    if isinstance(document, LexicalEncoder):
        raise InputError(
            "a lexical encoder, which cannot be a student",
            where=name,
            expected=(
                "an encoder with a body. To compare a lexical one with a teacher, search with it and pass the run with "
                f"{param('agreement')}"
            ),
        )
    kinds = {item.kind for example in examples for item in example.dark or ()}
    special = special_of_encoder(document, kinds, name)
    factor = document.settings.default_scale if scale is None else scale
    lists: Lists = {PLAIN: [], DARK: []} if kinds else {PLAIN: []}
    known = with_a_query(examples, texts)
    items = sum(len(scored_items(example)) for example in known)
    seen, documents = 0, Join(texts.store, shown(texts.store.corpus))
    with reporting.progress(f"encoding with {name}", len(known), "examples") as progress:
        for window in (known[start : start + EXAMPLES_A_WINDOW] for start in range(0, len(known), EXAMPLES_A_WINDOW)):
            for example, (found, scores) in zip(
                window, _scores_of(window, texts, encoder.of("query"), document, special, computing), strict=True
            ):
                seen += len(found)
                if len(found) < len(scored_items(example)):
                    documents.look_up(documents_in(example))
                for kind in lists:
                    kept = [at for at, one in enumerate(found) if kind == DARK or isinstance(one.item, str)]
                    if len(kept) > 1:
                        lists[kind].append(([found[at].score for at in kept], [scores[at] for at in kept], factor))
            progress.advance(len(window))
    if not lists[PLAIN]:
        raise InputError(
            f"no example has two documents that a teacher has scored and that are in {documents.name}; do the examples "
            f"and the corpus belong together? {documents.pair()} If they do, run teacher-score on the examples"
        )
    reporting.notice(
        items - seen,
        f"{items - seen:,} of the {items:,} items that the teacher scored have a document that is not in "
        f"{documents.name}; left out {documents.pair()}",
    )
    return {kind: kept for kind, kept in lists.items() if kept}


class _Window(NamedTuple):
    """The items of some examples that have a text.

    Texts are by item: those with the usual length of documents, and those with twice that length.
    """

    listed: list[list[ScoredItem]]
    short: dict[object, str]
    double: dict[object, str]


def _key(query_id: str, item: str | Dark) -> object:
    """Return the key of an item's text, which for a dark item depends on its query too."""
    return item if isinstance(item, str) else (query_id, item)


def _texts_of(window: Sequence[Example], texts: ScoredTexts, encoder: Encoder, special: Special) -> _Window:
    found: dict[str, str | None] = {}
    made = _Window([], {}, {})
    for example in window:
        made.listed.append([])
        for one in scored_items(example):
            parts = (one.item,) if isinstance(one.item, str) else documents_of(one.item)
            found.update({part: texts.document(part) for part in parts if part not in found})
            known = {part: text for part in parts if (text := found[part]) is not None}
            if any(part not in known for part in parts):
                continue
            made.listed[-1].append(one)
            if isinstance(one.item, str):
                made.short[one.item] = encoder.prepare(known[one.item])
            else:
                kept = made.double if one.item.kind == "reinforced" else made.short
                kept[_key(example.query_id, one.item)] = dark_text_for(
                    encoder, one.item, example.query_id, known.__getitem__, special
                )
    return made


def _scores_of(
    window: Sequence[Example],
    texts: ScoredTexts,
    query_encoder: Encoder | LexicalEncoder,
    document_encoder: Encoder,
    special: Special,
    computing: Compute,
) -> Iterator[tuple[list[ScoredItem], list[float]]]:
    """Yield the items of each example that have a text, and the encoder's scores of them."""
    made = _texts_of(window, texts, document_encoder, special)
    vectors: dict[object, np.ndarray] = {}
    for kept, longest in (
        (made.short, document_encoder.settings.max_document_tokens),
        (made.double, reinforced_tokens(document_encoder)),
    ):
        into = np.empty((len(kept), document_encoder.dimension), np.float32)
        tokens = document_encoder.tokenize_prepared(list(kept.values()), "document", longest)
        encode_tokens(document_encoder, tokens, computing, into)
        vectors |= dict(zip(kept, into, strict=True))
    queries, _ = encode_texts(
        query_encoder, [texts.queries[example.query_id] for example in window], "query", computing
    )
    for example, items, query in zip(window, made.listed, queries, strict=True):
        yield items, [float(query @ vectors[_key(example.query_id, one.item)]) for one in items]
