"""Flags that go with files of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.common import Role
from drtools.formats.foreign_folder import ForeignSpec

PANEL = "With --from"
Foreign = Literal[
    "triples", "drhard", "simlm", "colbert", "msmarco-id-triples", "questions", "msmarco-run", "dpr-output"
]
FORMATS_OF_FLAGS = {  # the formats that a flag goes with
    "--qrels": ("drhard",),
    "--query-map": ("drhard",),
    "--document-map": ("drhard",),
    "--teacher": ("simlm", "colbert"),
    "--system": ("msmarco-hard-negatives",),
    "--per-system": ("msmarco-hard-negatives",),
}


@dataclass(frozen=True)
class ForeignFlags:
    """What goes with a training file of another program."""

    teacher: Annotated[
        str | None,
        Option(help="with simlm and colbert: name of the teacher that gave the file's scores", rich_help_panel=PANEL),
    ] = None
    qrels: Annotated[
        str | None,
        Option(help="with drhard: judgements in the numbers of hard.json", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    query_map: Annotated[
        str | None,
        Option(help="with drhard: its pickled numbers of the queries, qid2offset", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    document_map: Annotated[
        str | None,
        Option(help="with drhard: its pickled numbers of the documents, pid2offset", rich_help_panel=PANEL),
        Role.INPUT,
    ] = None
    systems: Annotated[
        list[str] | None,
        Option(
            "--system",
            help="with msmarco-hard-negatives: system to take negatives of; may be repeated; default: all",
            rich_help_panel=PANEL,
        ),
    ] = None
    per_system: Annotated[
        int | None,
        Option(
            min=1, help="with msmarco-hard-negatives: negatives of each system; default: all", rich_help_panel=PANEL
        ),
    ] = None

    def spec(self) -> ForeignSpec:
        """Return what goes with a file that names its documents by ids."""
        return ForeignSpec(self.qrels, self.query_map, self.document_map, self.teacher)

    def by_flag(self) -> dict[str, object]:
        """Return the flags' values by their names."""
        return {
            "--qrels": self.qrels,
            "--query-map": self.query_map,
            "--document-map": self.document_map,
            "--teacher": self.teacher,
            "--system": self.systems or None,
            "--per-system": self.per_system,
        }
