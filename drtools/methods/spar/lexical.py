"""Make a lexical encoder without attention: count the terms of a corpus, fit or draw their rows, write a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.text_sources import judged_queries
from drtools.methods.spar.corpus_terms import CorpusTerms, count_corpus
from drtools.methods.spar.fitting import fit_to_corpus
from drtools.methods.spar.static_rows import PASSES
from drtools.models.analyzer import Analyzer
from drtools.models.lexical import LexicalSettings, save_lexical
from drtools.models.terms import CountedTerms, TermKeys, count_terms
from drtools.randomness import generator

if TYPE_CHECKING:
    from drtools.formats.text_sources import DocumentTexts
    from drtools.methods.spar.settings import LexicalPlan

QUERIES_A_PART = 4096


def make_lexical(folder: Path, texts: DocumentTexts, plan: LexicalPlan) -> dict[str, Any]:
    """Write a lexical encoder for the terms of documents into a folder. Returns the facts for its manifest."""
    analyzer, known = Analyzer(plan.language), TermKeys()
    sampled = sampled_rows(len(texts), plan.fit_documents if plan.encoder == "static" else 0, plan.seed)
    with reporting.progress("counting terms", len(texts), "documents") as progress:
        counted = count_corpus(texts, analyzer, known, sampled, progress.advance)
    if not counted.documents:
        raise InputError(
            (f"no document has a term; is {param('language')} the language of the corpus?"),
            where=texts.path,
        )
    statistics = {"keys": counted.keys, "frequencies": counted.frequencies}
    if plan.encoder == "static":
        asked = query_terms(plan.queries, plan.only, analyzer, known) if plan.queries else None
        statistics |= _fitted(counted, asked, plan)
    settings = LexicalSettings(
        plan.encoder,
        plan.language,
        plan.dimension,
        plan.k1,
        plan.b,
        counted.documents,
        counted.mean_length,
        plan.seed,
        texts.separator,
    )
    fingerprints = save_lexical(folder, settings, statistics)
    empty = len(texts) - counted.documents
    reporting.notice(empty, f"{empty:,} of {len(texts):,} documents have no term")
    return {
        "encoder": plan.encoder,
        "dimension": plan.dimension,
        "documents": counted.documents,
        "terms": len(counted.keys),
        "corpus": texts.path,
        "language": plan.language,
        "title_separator": texts.separator,
        **{f"{side}_fingerprint": value for side, value in fingerprints.items()},
    }


def sampled_rows(count: int, wanted: int, seed: int) -> np.ndarray:
    """Return which documents are used for fitting, bool [count]."""
    sampled = np.zeros(count, bool)
    sampled[generator(seed, "fit").permutation(count)[:wanted]] = True
    return sampled


def query_terms(queries: str, only: str | None, analyzer: Analyzer, known: TermKeys) -> list[CountedTerms]:
    """Return the counted terms of the queries for fitting, part by part.

    There may be as many queries as a corpus has sentences.
    """
    texts = list(judged_queries(queries, only).values())
    return [
        count_terms(analyzer(texts[start : start + QUERIES_A_PART]), known)
        for start in range(0, len(texts), QUERIES_A_PART)
    ]


def _fitted(counted: CorpusTerms, asked: list[CountedTerms] | None, plan: LexicalPlan) -> dict[str, np.ndarray]:
    with reporting.progress("fitting", PASSES, "passes") as progress:
        return fit_to_corpus(
            counted, asked, plan.dimension, (plan.k1, plan.b), plan.fit_terms, plan.seed, progress.advance
        )
