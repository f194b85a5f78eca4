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

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools import reporting, units
from drtools.cli.flags.common import Documents, DryRun, Only, Role, Seed, Threads, TitleSeparator
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.formats.corpus_store import open_store
from drtools.formats.text_sources import DocumentTexts
from drtools.methods.spar.settings import LexicalPlan
from drtools.models.device import set_threads
from drtools.outputs.opening import open_folder

BM25, FIT = "BM25", "Fit (static)"
FIT_DOCUMENTS, FIT_TERMS = LexicalPlan.fit_documents, LexicalPlan.fit_terms


@dataclass(frozen=True)
class LexicalFlags:
    """What the encoder is made of, and how."""

    corpus: Documents
    encoder: Annotated[
        Literal["static", "projection"], Option(help="static: rows fitted to the corpus; projection: random rows")
    ] = "static"
    dimension: Annotated[int, Option(min=1, help="length of the vectors")] = 768
    language: Annotated[str, Option(help="analyzer: en, zh, ja, de ...")] = "en"
    title_separator: TitleSeparator = " "
    k1: Annotated[float, Option(min=0, rich_help_panel=BM25)] = 0.9
    b: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = 0.4
    queries: Annotated[
        str | None,
        Option(help="queries like those to come; default: a rule by document frequency", rich_help_panel=FIT),
        Role.INPUT,
    ] = None
    only: Only = None
    fit_documents: Annotated[
        int, Option(min=1, help="random documents to fit to, if the corpus has more", rich_help_panel=FIT)
    ] = FIT_DOCUMENTS
    fit_terms: Annotated[
        int,
        Option(
            min=1, help="terms with a row of their own, if there are more; others have random rows", rich_help_panel=FIT
        ),
    ] = FIT_TERMS
    seed: Seed = 42
    threads: Threads = 0

    def check(self) -> None:
        """Raise InputError for flags that do not go together."""
        if self.only and not self.queries:
            raise InputError("--only keeps queries that it judges", remedy="name them by --queries QUERIES")
        if self.encoder == "projection" and self.queries:
            raise InputError(
                "a projection fits nothing to queries", where="--queries", remedy="leave it out, or --encoder static"
            )
        if self.encoder == "projection" and (self.fit_documents, self.fit_terms) != (FIT_DOCUMENTS, FIT_TERMS):
            raise InputError(
                "a projection is fitted to nothing",
                where="--fit-documents and --fit-terms",
                remedy="leave them out, or --encoder static",
            )

    @property
    def plan(self) -> LexicalPlan:
        """How the encoder is made."""
        return LexicalPlan(
            self.encoder,
            self.dimension,
            self.language,
            self.k1,
            self.b,
            self.queries,
            self.only,
            self.fit_documents,
            self.fit_terms,
            self.seed,
        )


def main(folder: FolderOutput, flags: LexicalFlags, dry_run: DryRun = False) -> None:
    """Compose: the corpus's terms counted, rows fitted or left to chance, a model folder."""
    flags.check()
    texts = DocumentTexts(open_store(flags.corpus), flags.title_separator)
    if dry_run:
        return say_plan(len(texts), flags.plan)
    with open_folder(folder) as work:
        from drtools.methods.spar.lexical import make_lexical

        set_threads(flags.threads)
        facts = make_lexical(work.path, texts, flags.plan)
        work.finish(kind="encoder", **facts)
    reporting.say(
        f"{folder.output}: {flags.dimension} dimensions for {facts['terms']:,} terms of "
        f"{facts['documents']:,} documents"
    )


def say_plan(documents: int, plan: LexicalPlan) -> None:
    """Say what the work would be."""
    sampled, is_static = min(documents, plan.fit_documents), plan.encoder == "static"
    fitted = f"; rows fitted to {sampled:,} of them" if is_static else ""
    # [ours] measured on one core: abstracts of 230 words; 8 passes over 5,000 of them in 768 dimensions take 10 seconds
    seconds = documents / 5000 + (sampled / 5000 * plan.dimension / 768 * 10 if is_static else 0)
    size = 4 * plan.dimension * (20 * sampled) if is_static else 0
    reporting.say(
        f"{documents:,} documents to count{fitted}; about {units.seconds_as_words(3 + seconds)}, "
        f"{units.bytes_as_words(min(size, 12 * plan.dimension * plan.fit_terms))} of memory"
    )
