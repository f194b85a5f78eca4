"""Index folders: Lucene indexes of a corpus, and FAISS indexes of a vectors folder."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from drtools import reporting, units
from drtools.costs import Costs, Forecast, peak_bytes, resident_bytes, say_costs
from drtools.errors import InputError, param
from drtools.formats.lines import shown
from drtools.formats.text_sources import DocumentTexts
from drtools.formats.vectors import IDS, Vectors, note_other_precision, open_document_vectors, open_vectors
from drtools.models.analyzer import language_analyzer
from drtools.models.device import all_threads
from drtools.search import faiss_index, faiss_marks, faiss_update
from drtools.search.faiss_gpu import gpus
from drtools.search.faiss_parts import estimate
from drtools.search.faiss_trial import refuse_unusable
from drtools.search.lucene import WRITE_BUFFER_MEGABYTES, build_index
from drtools.search.presets import factory_of
from drtools.search.query_vectors import refuse_another_encoder
from drtools.search.specs import FaissSpec, LuceneSpec

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.outputs.work import Work

OF_VECTORS = (  # keys that an index copies from the manifest of its vectors
    "side",
    "dimension",
    "normalized",
    "model",
    "corpus",
    "title_separator",
    "max_tokens",
    "query_fingerprint",
    "document_fingerprint",
)
OF_SOME_VECTORS = ("joined", "rem", "document_model", "truncate_dimension")
SAMPLED_DOCUMENTS = 1000  # [ours] of a dry run
LARGEST_LUCENE_BUFFER = 1e6 * WRITE_BUFFER_MEGABYTES


def open_forecast(store: CorpusStore, spec: LuceneSpec) -> Forecast:
    """Report what is about to be indexed; return the forecast, in documents.

    Raises InputError for a language without an analyzer.
    """
    language_analyzer(spec.language)
    reporting.say(units.counted(len(store), "document"))
    return Forecast(len(store), _lucene_bytes(store, spec))


def say_lucene_plan(store: CorpusStore, spec: LuceneSpec) -> None:
    """Report what indexing a corpus costs, after indexing its first documents into a temporary folder."""
    open_forecast(store, spec)
    texts = DocumentTexts(store, spec.title_separator)
    times = []
    for count in (SAMPLED_DOCUMENTS // 4, SAMPLED_DOCUMENTS):  # the first also starts Java
        sample = zip(*texts.slice(0, count), strict=True)
        started = time.monotonic()
        with TemporaryDirectory(prefix="drtools-") as folder:
            threads = spec.threads or all_threads()
            build_index(Path(folder) / "lucene", sample, spec.language, spec.document_vectors, threads)
        times.append(time.monotonic() - started)
    others = max(0, len(store) - SAMPLED_DOCUMENTS // 4)
    seconds = times[0] + times[1] * others / min(len(store), SAMPLED_DOCUMENTS)
    disk = _lucene_bytes(store, spec)
    memory = peak_bytes() + min(disk, LARGEST_LUCENE_BUFFER)
    say_costs(Costs(memory=memory, disk=disk, seconds=seconds))


def _lucene_bytes(store: CorpusStore, spec: LuceneSpec) -> float:
    characters: float = store.characters
    # [ours] about half the size of the text, twice that with term vectors
    return characters * (1.0 if spec.document_vectors else 0.5)


def build_lucene(work: Work, store: CorpusStore, spec: LuceneSpec) -> dict[str, Any]:
    """Index a corpus for BM25 into the folder of `work`; return the facts for its manifest."""
    texts, hasher = DocumentTexts(store, spec.title_separator), hashlib.blake2b(digest_size=16)
    forecast = open_forecast(store, spec)
    with reporting.progress("indexing", len(store), "documents") as progress:
        counts = build_index(
            work.path / "lucene",
            _pairs(texts, progress, hasher, forecast),
            spec.language,
            spec.document_vectors,
            spec.threads or all_threads(),
        )
    reporting.notice(counts.empty, f"{counts.empty:,} of {len(store):,} documents were empty and are not in the index")
    return {
        "count": counts.documents,
        "empty": counts.empty,
        "language": spec.language,
        "document_vectors": spec.document_vectors,
        "corpus": shown(spec.corpus),
        "title_separator": spec.title_separator,
        # Lucene gives segments ids of chance, so that equal indexes are other bytes
        "identity": ["lucene", hasher.hexdigest(), spec.language, spec.document_vectors],
    }


def _pairs(
    texts: DocumentTexts, progress: reporting.Progress, hasher: hashlib.blake2b, forecast: Forecast
) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of every document, and add them to a hash."""
    for start in range(0, len(texts), 1000):
        ids, chunk = texts.slice(start, start + 1000)
        hasher.update(orjson.dumps([ids, chunk]))
        yield from zip(ids, chunk, strict=True)
        progress.advance(len(ids))
        forecast.note(progress.done)


class FaissPlan(NamedTuple):
    """The vectors, the factory string, and the changes to an earlier index, if one is updated.

    `ef_construction` is that of an index which is built, `gpus` has the numbers of those that build it.
    """

    vectors: Vectors
    factory: str
    threads: int
    change: faiss_update.Change | None
    ef_construction: int | None = None
    gpus: Sequence[int] = ()


def plan_faiss(spec: FaissSpec) -> FaissPlan:
    """Plan the indexing of vectors and print its size and time; raise InputError if it is not possible."""
    opened = open_document_vectors(spec.vectors)
    if spec.check_queries:
        check_queries(spec.check_queries, opened)
    count, dimension = opened.array.shape
    threads = spec.threads or all_threads()
    named = None if spec.factory is None else factory_of(spec.factory, dimension)
    old = faiss_update.check_old(spec.update, opened, named) if spec.update else {}
    factory = old.get("factory") or ("Flat" if named is None else named)
    if spec.update:
        change = faiss_update.changes(spec.update, opened)
        reporting.say(
            f"{spec.update}: {len(change.gone):,} of {old['count']:,} rows are gone or changed, {len(change.new):,} of "
            f"{units.counted(count, 'vector is', 'vectors are')} new"
        )
        faiss_update.check_gone(spec.update, opened, change, spec.allow_dropped)
        faiss_update.note_nothing_kept(spec.update, opened, change)
        numbers = gpus(spec.device, wanted=spec.device != "auto")
        return _updated_or_anew(FaissPlan(opened, factory, threads, change, None, numbers), spec.update)
    refuse_unusable(opened.array, factory, spec.train_sample, spec.seed, spec.ef_construction)
    numbers = gpus(spec.device, wanted=spec.device != "auto")
    _say_estimate(factory, count, dimension, threads, numbers)
    return FaissPlan(opened, factory, threads, None, spec.ef_construction, numbers)


def _updated_or_anew(plan: FaissPlan, folder: str) -> FaissPlan:
    """Plan to build an index anew if an update would leave too many of its rows marked as deleted."""
    change, (count, dimension) = plan.change, plan.vectors.array.shape
    assert change is not None, "an update"
    marked, stored = faiss_update.marked_rows(plan.factory, dimension, change), count + change.marked
    if not marked:
        return plan
    words = f"{folder}: {marked:,} of {stored:,} rows are marked as deleted"
    most = faiss_marks.largest_marked(stored)
    if marked <= most:
        reporting.say(f"{words}; the index is built anew if these are more than {most:,}")
        return plan
    reporting.say(f"{words}, more than a tenth: the index is built anew")
    _say_estimate(plan.factory, count, dimension, plan.threads, plan.gpus)
    return plan._replace(change=None, ef_construction=faiss_update.construction_of(folder))


def _say_estimate(factory: str, count: int, dimension: int, threads: int, numbers: Sequence[int]) -> None:
    """Print the size of an index and, if no GPU takes part, the time of its build."""
    size, seconds = estimate(factory, count, dimension, threads)
    work = f"{factory} over {units.counted(count, 'vector')} of {dimension} dimensions"
    block = 4 * dimension * min(count, faiss_index.ADD_ROWS)
    say_costs(Costs(work, memory=resident_bytes() + size + block, disk=size, seconds=None if numbers else seconds))


def build_faiss(work: Work, spec: FaissSpec, plan: FaissPlan) -> dict[str, Any]:
    """Index vectors into the folder of `work`; return the facts for its manifest."""
    opened, change = plan.vectors, plan.change
    count, path = len(opened.array), work.path / "index.faiss"
    with reporting.progress("indexing", count if change is None else len(change.new), "vectors") as progress:

        def on_progress(done: int) -> None:
            progress.advance(done - progress.done)

        if change is not None:
            assert spec.update is not None, "the index that is changed"
            note = faiss_update.update(spec.update, opened.array, change, path, plan.threads, on_progress, plan.gpus)
        else:
            how = (spec.train_sample, spec.seed, plan.ef_construction)
            note = faiss_index.build(opened.array, plan.factory, path, *how, plan.threads, on_progress, plan.gpus)
    if note:
        reporting.say(f"note: {note}")
    faiss_update.write_digests(opened, work.path)
    marked = 0 if change is None else faiss_update.marked_rows(plan.factory, opened.array.shape[1], change)
    shutil.copyfile(opened.path / IDS, work.path / IDS)
    return {
        "count": count,
        "factory": plan.factory,
        "recall": measured_recall(path, opened, spec) if spec.check else None,
        "vectors": spec.vectors,
        "new_since_training": 0 if change is None else change.new_since_training,
        **({"marked": marked} if marked else {}),
        **{name: opened.manifest[name] for name in OF_VECTORS},
        **{name: opened.manifest[name] for name in OF_SOME_VECTORS if name in opened.manifest},
    }


def check_queries(queries: str, documents: Vectors) -> None:
    """Raise InputError for query vectors that do not fit the documents, before hours of building."""
    theirs = open_vectors(queries).manifest
    named = f"{param('check_queries')} {queries}"
    if theirs["side"] != "query":
        raise InputError(
            "vectors of documents", where=named, expected=f"vectors of queries (encode {param('queries')})"
        )
    if not documents.manifest.get("joined"):
        advice = "encode the queries with the encoder that made them"
        refuse_another_encoder(documents.manifest, documents.path, theirs, theirs["dimension"], named, advice, advice)
        note_other_precision(theirs, documents.manifest, documents.path)


def measured_recall(path: Path, documents: Vectors, spec: FaissSpec) -> dict[str, Any]:
    """Measure an index's recall against exact search, with query vectors or with a sample of the documents."""
    count = len(documents.array)
    if spec.check_queries:
        array = open_vectors(spec.check_queries).array
    else:
        rows = np.random.default_rng(spec.seed).choice(count, min(1000, count), replace=False)
        array = documents.array[np.sort(rows)]
    depth = min(spec.check_depth, count)
    value = faiss_index.recall(faiss_index.load(path), documents.array, np.array(array, np.float32), depth)
    reporting.say(
        f"recall of the exact top {depth}: {value:.4f} ({len(array):,} "
        f"{'queries' if spec.check_queries else 'documents as queries'})"
    )
    return {"depth": depth, "queries": len(array), "value": value}
