"""Flags of dev evaluation."""

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
    """Which queries to measure on while training; the first measure decides what is best."""

    dev_qrels: Annotated[
        str | None, Option(help="judgements to evaluate on while training", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="their queries; default: --queries", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_measures: Annotated[str, Option(help="measures, the deciding one first", rich_help_panel=PANEL)] = (
        "nDCG@10,RR@10"
    )


@dataclass(frozen=True)
class DevFlags(QueryDevFlags, DevSpec):
    """The same, with the documents that are searched."""

    dev_corpus: Annotated[
        str | None, Option(help="their corpus; default: --corpus", rich_help_panel=PANEL), Role.INPUT
    ] = None
    dev_documents: Annotated[
        int,
        Option(
            min=0,
            help="size of the pool: all judged documents and a random rest; 0: the whole corpus",
            rich_help_panel=PANEL,
        ),
    ] = 2000


@dataclass(frozen=True)
class ExampleDevFlags(ExampleDevSpec):
    """Examples to measure on while training, labelled by rank."""

    dev_examples: Annotated[
        str | None,
        Option(help="examples mined by rank, of other queries, to evaluate on while training", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="their queries; default: --queries", rich_help_panel=PANEL), Role.INPUT
    ] = None


@dataclass(frozen=True)
class RankerDevFlags(QueryDevFlags, RankerDevSpec):
    """The same, with what is ranked: the first documents of a run, or the positives and negatives of examples."""

    dev_run: Annotated[
        str | None,
        Option(help="run that is ranked anew (BM25's, for instance), by --dev-qrels", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    dev_depth: Annotated[
        int, Option(min=1, help="documents of --dev-run that are ranked, for each query", rich_help_panel=PANEL)
    ] = 100
    dev_examples: Annotated[
        str | None,
        Option(
            help="examples whose documents are ranked, in place of --dev-run and --dev-qrels", rich_help_panel=PANEL
        ),
        Role.INPUT,
    ] = None
    dev_corpus: Annotated[
        str | None, Option(help="their corpus; default: --corpus", rich_help_panel=PANEL), Role.INPUT
    ] = None
