"""Write queries for documents with a language model, batch by batch, and filter them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.corpora import Document, document_text
from drtools.formats.corpus_store import open_store
from drtools.formats.json_lines import json_line
from drtools.formats.trec import write_qrels
from drtools.methods.generation.settings import DOCUMENT, GenerationSettings
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.outputs import manifest
from drtools.outputs.checksums import Span
from drtools.outputs.contents import WORKING
from drtools.outputs.states import State
from drtools.randomness import generator
from drtools.search.specs import SourceSpec
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.models.generators import Generator
    from drtools.outputs.work import Work

GENERATED = "generated.jsonl"  # in the working folder: all queries, before the filters
QUERIES, QRELS = "queries.jsonl", "qrels/train.tsv"
ON_CPU, ON_GPU = 1, 32  # documents that are written for together; alone, their bits depend on nothing else
Record = dict[str, Any]
DROPPED = {  # {name of a count: why queries were left out}
    "empty": "empty",
    "repeated": "repeated for the same document",
    "not found": "did not find their document",
    "below": "scored too low by the teacher",
}


@dataclass(kw_only=True)
class GenerationState(State):
    """The state of a stopped generation: finished documents, bytes of their queries, and counts."""

    done: int
    bytes: int
    counts: dict[str, int]


def generate_queries(work: Work, settings: GenerationSettings, compute: ComputeSpec) -> Counter[str]:
    """Write queries.jsonl and qrels/train.tsv into a folder; return what was written and left out."""
    keep = filters(settings, compute)  # what cannot be opened is refused before hours of writing
    counts = _write(work, settings, compute)
    with open(work.working / GENERATED, "rb") as stream:
        records = [orjson.loads(line) for line in stream]
    counts["generated"] = len(records)
    for name, kept in (("empty", without_empty), ("repeated", without_repeated), *keep):
        left = kept(records)
        counts[name], records = len(records) - len(left), left
    counts["queries"] = len(records)
    counts["documents without a query"] = counts["documents"] - len({record["document"] for record in records})
    if not records:
        raise InputError(
            f"none of {counted(counts['generated'], 'query', 'queries')} is left ({dropped_in_words(counts)})",
            where=settings.model,
            remedy="look at them in the working folder of the unfinished output, and change the prompt or the filters",
        )
    with open(work.path / QUERIES, "wb") as stream:
        stream.writelines(map(json_line, records))
    (work.path / QRELS).parent.mkdir(exist_ok=True)
    with open(work.path / QRELS, "wb") as stream:
        write_qrels(stream, {record["_id"]: {record["document"]: 1} for record in records})
    return counts


def dropped_in_words(counts: Counter[str]) -> str:
    """Say how many queries each filter left out."""
    return ", ".join(f"{counts[name]:,} {words}" for name, words in DROPPED.items() if counts[name])


def _write(work: Work, settings: GenerationSettings, compute: ComputeSpec) -> Counter[str]:
    """Write queries of all documents into the working folder, or those that an earlier process has not written."""
    from drtools.models.compute import settle
    from drtools.models.generators import load_generator

    state = GenerationState.of(work) or GenerationState(done=0, bytes=0, counts={})
    store = open_store(settings.corpus)
    rows = _rows(len(store), settings)
    if state.done >= len(rows):
        return Counter(state.counts)
    computing = settle(compute)
    writer = load_generator(settings.model, settings.trust_remote_code)
    template = read_template(settings, writer)
    writer.place(computing)
    together = settings.batch_documents or (ON_CPU if computing.device == "cpu" else ON_GPU)
    counts = Counter(state.counts)
    path = work.working / GENERATED
    with (
        open(path, "r+b" if state.bytes else "wb") as stream,
        reporting.progress("writing queries", len(rows), "documents", state.done) as progress,
    ):
        stream.seek(state.bytes)
        stream.truncate()
        for start in range(state.done, len(rows), together):
            batch = [store.at(row) for row in rows[start : start + together]]
            _write_batch(stream, batch, writer, template, settings, counts)
            stream.flush()
            os.fsync(stream.fileno())
            done = start + len(batch)
            saved = GenerationState(done=done, bytes=stream.tell(), counts=dict(counts))
            saved.save(work, {f"{WORKING}/{GENERATED}": Span(0, saved.bytes)})
            progress.advance(len(batch))
    reporting.notice(
        counts["truncated"],
        f"{counted(counts['truncated'], 'document was', 'documents were')} cut at "
        f"{settings.max_document_tokens} tokens",
    )
    return counts


def _rows(count: int, settings: GenerationSettings) -> Sequence[int]:
    """Return the rows of the documents to write for, in the order of the corpus."""
    if settings.sample is None or settings.sample >= count:
        return range(count)
    return sorted(generator(settings.seed, "documents").choice(count, settings.sample, replace=False).tolist())


def read_template(settings: GenerationSettings, writer: Generator) -> str:
    """Return the prompt of a document, and check that it fits; a sequence-to-sequence model needs none."""
    if settings.prompt is None:
        if not writer.is_seq2seq:
            raise InputError(
                "a causal model continues a prompt",
                where=settings.model,
                remedy=f"use {param('prompt')} FILE, a text in which {DOCUMENT} stands for the document",
            )
        template = DOCUMENT
    else:
        try:
            template = Path(settings.prompt).read_text(encoding="utf-8").removesuffix("\n")
        except UnicodeDecodeError:
            raise InputError("not UTF-8", where=settings.prompt, expected="a prompt, a text") from None
        if template.count(DOCUMENT) != 1:
            raise InputError(
                f"{DOCUMENT} occurs {template.count(DOCUMENT)} times",
                where=settings.prompt,
                expected="a prompt in which it stands once, for the document",
            )
    if settings.chat_template:
        template = writer.in_chat(template)
    tokens = writer.count(template.replace(DOCUMENT, ""), not settings.chat_template)
    writer.check_room(tokens + settings.max_document_tokens, settings.max_query_tokens)
    return template


def _write_batch(
    stream: BinaryIO,
    batch: Sequence[Document],
    writer: Generator,
    template: str,
    settings: GenerationSettings,
    counts: Counter[str],
) -> None:
    from drtools.models.generators import SeededSampling

    prompts = []
    for document in batch:
        text = document_text(document.title, document.text, settings.title_separator)
        text, was_cut = writer.cut(text, settings.max_document_tokens)
        counts.update(documents=1, truncated=was_cut)
        prompts.append(template.replace(DOCUMENT, text))
    sampling = None
    if settings.temperature:
        draws = [
            generator(settings.seed, "query", document.id, number)
            for document in batch
            for number in range(settings.per_document)
        ]
        sampling = SeededSampling(draws, settings.temperature, settings.top_k, settings.top_p)
    special = not settings.chat_template
    written = writer.write(prompts, sampling, settings.per_document, settings.max_query_tokens, special)
    stream.writelines(
        json_line({"_id": f"{document.id}-{number}", "text": text, "document": document.id})
        for document, texts in zip(batch, written, strict=True)
        for number, text in enumerate(texts)
    )


def without_empty(records: list[Record]) -> list[Record]:
    """Leave out queries without a letter or digit."""
    return [record for record in records if any(sign.isalnum() for sign in record["text"])]


def without_repeated(records: list[Record]) -> list[Record]:
    """Leave out queries that a document has already, ignoring case."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for record in records:
        key = (record["document"], record["text"].casefold())
        if key not in seen:
            seen.add(key)
            kept.append(record)
    return kept


def filters(settings: GenerationSettings, compute: ComputeSpec) -> Iterator[tuple[str, Any]]:
    """Return the filters that were asked for, with their names; raise InputError for one that cannot be opened."""
    found: list[tuple[str, Any]] = []
    if settings.round_trip:
        found.append(("not found", _round_trip(settings, compute)))
    if settings.teacher and settings.least_score is not None:
        found.append(("below", _teacher(settings, compute)))
    return iter(found)


def _round_trip(settings: GenerationSettings, compute: ComputeSpec) -> Any:
    from drtools.search.mining_run import open_mined_source

    folder = str(settings.round_trip)
    is_vectors = manifest.read(folder).get("kind") == "vectors"
    spec = SourceSpec(vectors=folder) if is_vectors else SourceSpec(index=folder)
    source = open_mined_source(spec, EncoderSpec(model=settings.round_trip_model), compute)

    def found_again(records: list[Record]) -> list[Record]:
        own = {record["_id"]: record["document"] for record in records}
        if records and not any(document in source.documents for document in own.values()):
            raise InputError(
                f"holds none of the documents of {settings.corpus}; do the two belong together?",
                where=f"{param('round_trip')} {folder}",
            )
        queries = [(record["_id"], record["text"]) for record in records]
        hits = {found.query_id: found.hits for found in source.search(queries, settings.round_trip_depth, {})}
        return [record for record in records if own[record["_id"]] in hits.get(record["_id"], ())]

    return found_again


def _teacher(settings: GenerationSettings, compute: ComputeSpec) -> Any:
    from drtools.models.compute import settle
    from drtools.teachers.scoring import load_teacher, note_cuts

    least = settings.least_score
    assert least is not None, "given with a teacher"
    teacher = load_teacher(settings.teacher or [], settle(compute), trust_remote_code=settings.trust_remote_code)

    def scored_enough(records: list[Record]) -> list[Record]:
        store = open_store(settings.corpus)
        ids = list(dict.fromkeys(record["document"] for record in records))
        rows = dict(zip(ids, store.rows_of(ids), strict=True))
        texts = {}
        for each, row in rows.items():
            assert row is not None, "it was written for"
            document = store.at(row)
            texts[each] = document_text(document.title, document.text, settings.title_separator)
        pairs = [(record["text"], texts[record["document"]]) for record in records]
        with reporting.progress("scoring", len(pairs), "pairs") as progress:
            scores = teacher.scores(pairs, on_batch=progress.advance)
        note_cuts(teacher.counts)
        return [
            {**record, "score": float(score)}
            for record, score in zip(records, scores.tolist(), strict=True)
            if score >= least
        ]

    return scored_enough
