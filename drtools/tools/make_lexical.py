r"""Make an encoder that imitates BM25, without training (SPAR's Lambda).

    drtools make-lexical --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        --only qrels/train.tsv -o lexical
    drtools encode --model lexical --corpus corpus.jsonl.gz -o lexical-vectors
    drtools make-lexical --corpus corpus.jsonl.gz --encoder projection --dimension 1536 -o random

Lambda is SPAR's name for a dense encoder that imitates a sparse retriever; concat-spar joins its vectors with those of
another encoder. Here the vector of a text is the sum of the vectors of its terms, weighted by BM25, so that inner
products approximate BM25's scores. Terms come from Lucene's analyzer for the language.

--encoder static fits the term vectors to the corpus. It is better with --queries that resemble future queries, such as
training queries or a query log; their judgements are not read. Make it again when much of the corpus has changed.

--encoder projection uses random term vectors, for a corpus that grows. Nothing is fitted; only document frequencies are
counted. It needs at least twice as many dimensions.
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
    """What the encoder is made from, and how."""

    corpus: Documents
    encoder: Annotated[
        Literal["static", "projection"],
        Option(help="static: fit term vectors to the corpus; projection: random term vectors"),
    ] = "static"
    dimension: Annotated[int, Option(min=1, help="length of the vectors")] = 768
    language: Annotated[str, Option(help="language of the analyzer: en, zh, ja, de ...")] = "en"
    title_separator: TitleSeparator = " "
    k1: Annotated[float, Option(min=0, rich_help_panel=BM25)] = 0.9
    b: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = 0.4
    queries: Annotated[
        str | None,
        Option(
            help="queries that resemble future queries; default: a rule based on document frequency",
            rich_help_panel=FIT,
        ),
        Role.INPUT,
    ] = None
    only: Only = None
    fit_documents: Annotated[
        int, Option(min=1, help="maximum number of documents to fit to, drawn at random", rich_help_panel=FIT)
    ] = FIT_DOCUMENTS
    fit_terms: Annotated[
        int,
        Option(min=1, help="maximum number of terms with fitted vectors; others get random ones", rich_help_panel=FIT),
    ] = FIT_TERMS
    seed: Seed = 42
    threads: Threads = 0

    def check(self) -> None:
        """Raise InputError for flags that do not go together."""
        if self.only and not self.queries:
            raise InputError("--only needs --queries", remedy="use --queries QUERIES too")
        if self.encoder == "projection" and self.queries:
            raise InputError("--queries needs --encoder static", remedy="leave it out, or use --encoder static")
        if self.encoder == "projection" and (self.fit_documents, self.fit_terms) != (FIT_DOCUMENTS, FIT_TERMS):
            raise InputError(
                "--fit-documents and --fit-terms need --encoder static",
                remedy="leave them out, or use --encoder static",
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
    """Count the terms of the corpus, fit or draw their vectors, and write a model folder."""
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
        f"{folder.output}: {units.counted(flags.dimension, 'dimension')} for {units.counted(facts['terms'], 'term')} "
        f"of {units.counted(facts['documents'], 'document')}"
    )


def say_plan(documents: int, plan: LexicalPlan) -> None:
    """Print how much work it would be."""
    sampled, is_static = min(documents, plan.fit_documents), plan.encoder == "static"
    fitted = f"; term vectors fitted to {sampled:,} of them" if is_static else ""
    # [ours] measured on one core: abstracts of 230 words; 8 passes over 5,000 of them in 768 dimensions take 10 seconds
    seconds = documents / 5000 + (sampled / 5000 * plan.dimension / 768 * 10 if is_static else 0)
    size = 4 * plan.dimension * (20 * sampled) if is_static else 0
    reporting.say(
        f"{units.counted(documents, 'document')} to count{fitted}; about {units.seconds_as_words(3 + seconds)}, "
        f"{units.bytes_as_words(min(size, 12 * plan.dimension * plan.fit_terms))} of memory"
    )
