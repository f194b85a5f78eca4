"""Flags for dev evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import Role
from drtools.evaluation.specs import DevSpec, QueryDevSpec
from drtools.methods.ranker.settings import RankerDevSpec
from drtools.methods.spar.settings import ExampleDevSpec

PANEL = "Dev evaluation"


@dataclass(frozen=True)
class QueryDevFlags(QueryDevSpec):
    """The queries to evaluate on while training. The first measure selects the best checkpoint."""

    dev_qrels: Annotated[
        str | None, Option(help="qrels to evaluate on while training", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="queries of --dev-qrels; default: --queries", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_measures: Annotated[
        str, Option(help="measures; the first one selects the best checkpoint", rich_help_panel=PANEL)
    ] = "nDCG@10,RR@10"


@dataclass(frozen=True)
class DevFlags(QueryDevFlags, DevSpec):
    """The queries to evaluate on, and the documents to search."""

    dev_corpus: Annotated[
        str | None, Option(help="corpus of --dev-qrels; default: --corpus", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_documents: Annotated[
        int,
        Option(
            min=0,
            help="number of documents to search: all judged ones, filled up with random ones; 0: the whole corpus",
            rich_help_panel=PANEL,
        ),
    ] = 2000


@dataclass(frozen=True)
class ExampleDevFlags(ExampleDevSpec):
    """Examples labelled by rank, to evaluate on while training."""

    dev_examples: Annotated[
        str | None,
        Option(
            help="examples to evaluate on while training, mined by rank for queries that are not trained on",
            rich_help_panel=PANEL,
        ),
        Role.INPUT,
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="queries of --dev-examples; default: --queries", rich_help_panel=PANEL), Role.INPUT
    ] = None


@dataclass(frozen=True)
class RankerDevFlags(QueryDevFlags, RankerDevSpec):
    """The queries to evaluate on, and the documents to re-rank: those of a run, or those of examples."""

    dev_run: Annotated[
        str | None,
        Option(help="run to re-rank (BM25's, for instance) and to evaluate with --dev-qrels", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    dev_depth: Annotated[
        int, Option(min=1, help="documents of --dev-run to re-rank for each query", rich_help_panel=PANEL)
    ] = 100
    dev_examples: Annotated[
        str | None,
        Option(help="examples whose documents are ranked, instead of --dev-run and --dev-qrels", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    dev_corpus: Annotated[
        str | None, Option(help="corpus to evaluate on; default: --corpus", rich_help_panel=PANEL), Role.INPUT
    ] = None
