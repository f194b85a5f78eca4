"""Build an index: Lucene's from a corpus (BM25), FAISS's from vectors.

    drtools index --lucene corpus.jsonl.gz -o bm25
    drtools index --vectors vectors --factory HNSW32 --check -o index
    drtools index --vectors vectors --update index-of-yesterday -o index

FAISS takes any factory string (Flat, HNSW32, IVF1024,Flat, OPQ64_256,IVF4096,PQ64 ...) with the inner product as the
score. The string is tried on a few vectors first, and refused if that fails. PCA rotates the vectors and does not
subtract their mean, which would change the order of the scores. --update takes rows that are gone or changed out of an
earlier index and puts new ones in, without training: Flat, IVF, PQ, SQ, also behind OPQ or PCA. HNSW and fast-scan
codes can take rows at the end alone, else they say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from drtools import reporting, units
from drtools.cli.flags.common import DryRun, Role, Seed, Threads, TitleSeparator, names_of
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs import work as output

LUCENE, FAISS = "Lucene", "FAISS"


def main(
    folder: FolderOutput,
    lucene: Annotated[
        str | None,
        Option(help="corpus to index for BM25: JSONL or TSV, `.gz` or `-`", rich_help_panel=LUCENE),
        Role.INPUT,
    ] = None,
    vectors: Annotated[str | None, Option(help="vectors folder to index", rich_help_panel=FAISS), Role.INPUT] = None,
    language: Annotated[str, Option(help="analyzer: en, zh, ja, de ...", rich_help_panel=LUCENE)] = "en",
    document_vectors: Annotated[
        bool, Option("--document-vectors", help="keep term vectors, which RM3 needs", rich_help_panel=LUCENE)
    ] = False,
    title_separator: TitleSeparator = " ",
    factory: Annotated[
        str | None, Option(help="FAISS index factory string; default Flat", rich_help_panel=FAISS)
    ] = None,
    update: Annotated[
        str | None,
        Option(help="index of earlier vectors: change that, by what is gone and new", rich_help_panel=FAISS),
        Role.UPDATED,
    ] = None,
    train_sample: Annotated[
        int | None, Option(min=1, help="vectors to train on; default by what the index needs", rich_help_panel=FAISS)
    ] = None,
    ef_construction: Annotated[
        int | None, Option(min=1, help="HNSW: candidates while building", rich_help_panel=FAISS)
    ] = None,
    check: Annotated[
        bool, Option("--check", help="measure recall against exact search", rich_help_panel=FAISS)
    ] = False,
    check_queries: Annotated[
        str | None,
        Option(
            help="vectors folder of queries to check with; default: a sample of the documents", rich_help_panel=FAISS
        ),
        Role.INPUT,
    ] = None,
    check_depth: Annotated[int, Option(min=1, help="recall of so many hits", rich_help_panel=FAISS)] = 100,
    seed: Seed = 42,
    threads: Threads = 0,
    dry_run: DryRun = False,
) -> None:
    """Compose: one of two builders into one folder."""
    if (lucene is None) == (vectors is None):
        raise InputError("say either --lucene CORPUS or --vectors VECTORS")
    if update and (lucene or train_sample or ef_construction):
        raise InputError(
            "--update changes a FAISS index and trains nothing; leave --lucene, --train-sample and --ef-construction "
            "out, or leave --update out"
        )
    of_faiss = names_of(
        {
            "factory": factory,
            "train_sample": train_sample,
            "ef_construction": ef_construction,
            "check": check,
            "check_queries": check_queries,
        }
    )
    of_lucene = names_of({"document_vectors": document_vectors, "language": language if language != "en" else None})
    if needless := of_faiss if lucene else of_lucene:
        raise InputError(
            f"{' and '.join(needless)}: for "
            f"{'--vectors, which FAISS indexes' if lucene else '--lucene, which indexes words'}; leave it out"
        )
    if lucene:
        build_lucene(folder, lucene, language, document_vectors, title_separator, threads, dry_run)
    else:
        build_faiss(
            folder,
            vectors,
            factory,
            update,
            {"train_sample": train_sample, "seed": seed, "ef_construction": ef_construction},
            (check or bool(check_queries), check_queries, check_depth),
            seed,
            threads,
            dry_run,
        )


def build_lucene(folder, corpus, language, document_vectors, title_separator, threads, dry_run) -> None:
    """Index a corpus for BM25."""
    from drtools.formats.corpus_store import open_store
    from drtools.formats.lines import shown
    from drtools.formats.text_sources import DocumentTexts

    store = open_store(corpus)
    if dry_run:
        # [ours] about half the text's size, twice that with term vectors, at some thousand documents a second
        size = store.characters * (1.0 if document_vectors else 0.5)
        return reporting.say(
            f"{len(store):,} documents; about {units.bytes_as_words(size)} of index and "
            f"{units.seconds_as_words(3 + len(store) / 3000)}"
        )
    with output.folder(folder) as work:
        from drtools.models.device import all_threads
        from drtools.search.lucene import build_index

        texts = DocumentTexts(store, title_separator)
        with reporting.progress("indexing", len(store), "documents") as progress:
            counts = build_index(
                work.path / "lucene", pairs(texts, progress), language, document_vectors, threads or all_threads()
            )
        reporting.notice(
            counts.empty, f"{counts.empty:,} of {len(store):,} documents were empty and are not in the index"
        )
        work.finish(
            kind="lucene",
            count=counts.documents,
            empty=counts.empty,
            language=language,
            document_vectors=document_vectors,
            corpus=shown(corpus),
            title_separator=title_separator,
        )
    reporting.say(f"{folder.output}: {counts.documents:,} documents")


def pairs(texts, progress):
    """Yield (id, text) of every document."""
    for start in range(0, len(texts), 1000):
        ids, chunk = texts.slice(start, start + 1000)
        yield from zip(ids, chunk, strict=True)
        progress.advance(len(ids))


def build_faiss(folder, vectors, factory, update, how, check, seed, threads, dry_run) -> None:
    """Index vectors with FAISS."""
    import shutil

    from drtools.formats.vectors import IDS, open_document_vectors
    from drtools.models.device import all_threads
    from drtools.outputs.request import add_change
    from drtools.search import faiss_index, faiss_update
    from drtools.search.faiss_trial import refuse_unusable

    opened = open_document_vectors(vectors)
    if check[1]:
        check_queries(check[1], opened)
    count, dimension = opened.array.shape
    threads = threads or all_threads()
    old = faiss_update.check_old(update, opened, factory) if update else {}
    factory = old.get("factory") or ("Flat" if factory is None else factory)
    change = faiss_update.changes(update, opened) if update else None
    if change is not None:
        reporting.say(
            f"{update}: {len(change.gone):,} of {old['count']:,} rows are gone or changed, {len(change.new):,} of "
            f"{count:,} vectors are new"
        )
        faiss_update.note_nothing_kept(update, opened, change)
    else:
        refuse_unusable(opened.array, factory, **how)
        size, seconds = faiss_index.estimate(factory, count, dimension, threads)
        reporting.say(
            f"{factory} over {units.counted(count, 'vector')} of {dimension} dimensions: about "
            f"{units.bytes_as_words(size)}, roughly {units.seconds_as_words(seconds)}"
        )
    if dry_run:
        return
    if "PCA" in factory and not update:
        add_change(folder.request, "PCA rotates the vectors and does not subtract their mean")
    with output.folder(folder) as work:
        with reporting.progress("indexing", count if change is None else len(change.new), "vectors") as progress:
            told = {"threads": threads, "on_progress": lambda done: progress.advance(done - progress.done)}
            if change is not None:
                note = faiss_update.update(update, opened.array, change, work.path / "index.faiss", **told)
            else:
                note = faiss_index.build(opened.array, factory, work.path / "index.faiss", **how, **told)
        if note:
            reporting.say(f"note: {note}")
        faiss_update.write_digests(opened, work.path)
        shutil.copyfile(opened.path / IDS, work.path / IDS)
        recall = measured_recall(work.path, opened, check[1], check[2], seed) if check[0] else None
        kept = (
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
        more = {name: opened.manifest[name] for name in ("joined", "rem", "document_model") if name in opened.manifest}
        work.finish(
            kind="faiss",
            count=count,
            factory=factory,
            recall=recall,
            vectors=vectors,
            new_since_training=0 if change is None else change.new_since_training,
            **{name: opened.manifest[name] for name in kept},
            **more,
        )
    bytes_written = (Path(folder.output) / "index.faiss").stat().st_size
    reporting.say(f"{folder.output}: {units.counted(count, 'vector')}, {units.bytes_as_words(bytes_written)}")


def check_queries(queries, opened) -> None:
    """Refuse query vectors that these documents' are not to be searched with, before hours of building."""
    from drtools.formats.vectors import open_vectors
    from drtools.search.query_vectors import refuse_another_encoder

    theirs = open_vectors(queries).manifest
    if theirs["side"] != "query":
        raise InputError(
            f"--check-queries {queries}: vectors of documents, expected vectors of queries (encode --queries)"
        )
    if not opened.manifest.get("joined"):
        refuse_another_encoder(
            opened.manifest,
            opened.path,
            theirs,
            theirs["dimension"],
            f"--check-queries {queries}",
            "encode the queries with the encoder that made them",
            "encode the queries with the encoder that made them",
        )


def measured_recall(path, opened, queries, depth, seed) -> dict:
    """Measure recall against exact search, by query vectors or by a sample of the documents."""
    import numpy as np

    from drtools.formats.vectors import open_vectors
    from drtools.search import faiss_index

    if queries:
        array = open_vectors(queries).array
    else:
        array = opened.array[
            np.sort(np.random.default_rng(seed).choice(len(opened.array), min(1000, len(opened.array)), replace=False))
        ]
    depth = min(depth, len(opened.array))
    value = faiss_index.recall(faiss_index.load(path / "index.faiss"), opened.array, np.array(array, np.float32), depth)
    reporting.say(
        f"recall of the exact top {depth}: {value:.4f} ({len(array):,} "
        f"{'queries' if queries else 'documents as queries'})"
    )
    return {"depth": depth, "queries": len(array), "value": value}
