"""Make a lexical encoder (Lambda) without attention: vectors whose inner products are BM25 scores, or nearly.

    drtools make-lexical --corpus corpus.jsonl.gz --queries train.jsonl.gz --dimension 768 -o lexical
    drtools encode --model lexical --documents corpus.jsonl.gz -o lexical-vectors
    drtools search --vectors lexical-vectors --model lexical --queries queries.jsonl.gz -o lexical.run

A text's vector is the sum of its terms' rows, each with its BM25 weight; terms are those of Lucene's analyzer for the
language. --encoder static: rows fitted to the corpus and to so many dimensions, and better with --queries like those to
come, whose judgements are not read (train queries, a query log); make it anew when much of the corpus is new. --encoder
projection: random rows, for a corpus that grows; nothing is fitted, document frequencies are counted. Needs twice the
dimensions and more.
"""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

from drtools import reporting, units
from drtools.cli.flags.common import Documents, DryRun, Only, Role, Seed, Threads, TitleSeparator
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs import work as output

BM25, FIT = "BM25", "Fit (static)"
FIT_DOCUMENTS, FIT_TERMS = 50_000, 200_000
QUERIES_A_PART = 4096


def main(
    folder: FolderOutput,
    corpus: Documents,
    encoder: Annotated[
        Literal["static", "projection"], Option(help="static: rows fitted to the corpus; projection: random rows")
    ] = "static",
    dimension: Annotated[int, Option(min=1, help="length of the vectors")] = 768,
    language: Annotated[str, Option(help="analyzer: en, zh, ja, de ...")] = "en",
    title_separator: TitleSeparator = " ",
    k1: Annotated[float, Option(min=0, rich_help_panel=BM25)] = 0.9,
    b: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = 0.4,
    queries: Annotated[
        str | None,
        Option(help="queries like those to come; default: a rule by document frequency", rich_help_panel=FIT),
        Role.INPUT,
    ] = None,
    only: Only = None,
    fit_documents: Annotated[
        int, Option(min=1, help="random documents to fit to, if the corpus has more", rich_help_panel=FIT)
    ] = FIT_DOCUMENTS,
    fit_terms: Annotated[
        int,
        Option(
            min=1, help="terms with a row of their own, if there are more; others have random rows", rich_help_panel=FIT
        ),
    ] = FIT_TERMS,
    seed: Seed = 42,
    threads: Threads = 0,
    dry_run: DryRun = False,
) -> None:
    """Compose: the corpus's terms counted, rows fitted or left to chance, a model folder."""
    from drtools.formats.corpus_store import open_store
    from drtools.formats.text_sources import DocumentTexts

    if only and not queries:
        raise InputError("--only keeps queries that it judges; say which by --queries QUERIES")
    if encoder == "projection" and queries:
        raise InputError("--queries: a projection fits nothing to queries; leave it out, or --encoder static")
    if encoder == "projection" and (fit_documents, fit_terms) != (FIT_DOCUMENTS, FIT_TERMS):
        raise InputError(
            "--fit-documents and --fit-terms: a projection is fitted to nothing; leave them out, or --encoder static"
        )
    texts = DocumentTexts(open_store(corpus), title_separator)
    if dry_run:
        return say_plan(len(texts), encoder, dimension, fit_documents, fit_terms)
    with output.folder(folder) as work:
        from drtools.formats.lines import shown
        from drtools.methods.spar.corpus_terms import count_corpus
        from drtools.models.analyzer import Analyzer
        from drtools.models.device import set_threads
        from drtools.models.lexical import LexicalSettings, save_lexical
        from drtools.models.terms import TermKeys

        set_threads(threads)
        analyzer, known = Analyzer(language), TermKeys()
        with reporting.progress("counting terms", len(texts), "documents") as progress:
            counted = count_corpus(
                texts,
                analyzer,
                known,
                sampled_rows(len(texts), fit_documents if encoder == "static" else 0, seed),
                progress.advance,
            )
        if not counted.documents:
            raise InputError(
                f"{shown(corpus)}: no document has a term, so there is nothing to make an encoder of; is --language "
                "that of the corpus?"
            )
        statistics = {"keys": counted.keys, "frequencies": counted.frequencies}
        if encoder == "static":
            asked = query_terms(queries, only, analyzer, known) if queries else None
            statistics |= fit(counted, asked, dimension, (k1, b), fit_terms, seed)
        settings = LexicalSettings(
            encoder, language, dimension, k1, b, counted.documents, counted.mean_length, seed, title_separator
        )
        fingerprints = save_lexical(work.path, settings, statistics)
        empty = len(texts) - counted.documents
        reporting.notice(empty, f"{empty:,} of {len(texts):,} documents have no term")
        work.finish(
            kind="encoder",
            encoder=encoder,
            dimension=dimension,
            documents=counted.documents,
            terms=len(counted.keys),
            corpus=shown(corpus),
            language=language,
            title_separator=title_separator,
            **{f"{side}_fingerprint": value for side, value in fingerprints.items()},
        )
    reporting.say(
        f"{folder.output}: {dimension} dimensions for {len(counted.keys):,} terms of {counted.documents:,} documents"
    )


def sampled_rows(count: int, wanted: int, seed: int):
    """Return which documents to fit to, as bool [count]."""
    import numpy as np

    from drtools.randomness import generator

    sampled = np.zeros(count, bool)
    sampled[generator(seed, "fit").permutation(count)[:wanted]] = True
    return sampled


def query_terms(queries, only, analyzer, known):
    """Return the counted terms of the queries to fit to, part by part.

    There may be as many as a corpus has sentences.
    """
    from drtools.formats.text_sources import judged_queries
    from drtools.models.terms import count_terms

    texts = list(judged_queries(queries, only).values())
    return [
        count_terms(analyzer(texts[start : start + QUERIES_A_PART]), known)
        for start in range(0, len(texts), QUERIES_A_PART)
    ]


def fit(counted, asked, dimension, bm25, most_terms, seed) -> dict:
    """Fit the rows of the terms that matter most, and say how well they hold BM25's weights."""
    from drtools.methods.spar.fitting import fit_to_corpus
    from drtools.methods.spar.static_rows import PASSES

    with reporting.progress("fitting", PASSES, "passes") as progress:
        return fit_to_corpus(counted, asked, dimension, bm25, most_terms, seed, progress.advance)


def say_plan(documents, encoder, dimension, fit_documents, fit_terms) -> None:
    """Say what the work would be."""
    fitted = f"; rows fitted to {min(documents, fit_documents):,} of them" if encoder == "static" else ""
    # [ours] measured on one core: abstracts of 230 words; 8 passes over 5,000 of them in 768 dimensions take 10 seconds
    seconds = documents / 5000 + (
        min(documents, fit_documents) / 5000 * dimension / 768 * 10 if encoder == "static" else 0
    )
    size = 4 * dimension * (20 * min(documents, fit_documents)) if encoder == "static" else 0
    reporting.say(
        f"{documents:,} documents to count{fitted}; about {units.seconds_as_words(3 + seconds)}, "
        f"{units.bytes_as_words(min(size, 12 * dimension * fit_terms))} of memory"
    )
