"""Flags that several tools share: a dataclass for each group, expanded into a tool's signature by the command line."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated

from typer import Option

from drtools.formats.dropped import ALLOW_DROPPED


class Role(Enum):
    """What kind of value a flag takes, which decides how it counts when two commands are compared."""

    INPUT = auto()  # a file or folder: its content counts, not its name
    UPDATED = auto()  # the same, and the output may replace it
    STREAM = auto()  # a file or folder; standard input is read while results are written to standard output
    MODEL = auto()  # a folder, or a name on the hub
    SOURCE = auto()  # a file or folder, whose content counts, or a name of a data set
    UNRECORDED = auto()  # changes how the work is done or reported, never its result


INPUTS = (Role.INPUT, Role.UPDATED, Role.STREAM, Role.MODEL, Role.SOURCE)

Documents = Annotated[str, Option(help="corpus file: JSONL or TSV, may be `.gz`; `-`: standard input"), Role.INPUT]
Queries = Annotated[str, Option(help="queries file: JSONL or TSV, may be `.gz`; `-`: standard input"), Role.INPUT]
Qrels = Annotated[str, Option(help="relevance judgements: BEIR TSV or TREC format"), Role.INPUT]
MinRel = Annotated[int, Option(min=0, help="lowest grade that counts as relevant")]
Only = Annotated[str | None, Option(help="qrels file: keep only the queries that it judges"), Role.INPUT]
IgnoreIdenticalIds = Annotated[
    bool,
    Option(
        "--ignore-identical-ids",
        help="leave out the document that has the query's own id, as BEIR does (ArguAna, Quora)",
    ),
]
Seed = Annotated[int, Option(help="random seed")]
Threads = Annotated[int, Option(min=0, help="CPU threads; 0: OMP_NUM_THREADS if it is set, else all"), Role.UNRECORDED]
TitleSeparator = Annotated[str, Option(help="text put between a document's title and its text")]
AllowDropped = Annotated[
    float | None,
    Option(
        min=0,
        max=1,
        help="with --update: largest share of the earlier documents (or queries) that may be missing now; "
        f"default: {ALLOW_DROPPED:g}",
    ),
    Role.UNRECORDED,
]
PartFlag = Annotated[
    str | None,
    Option(
        metavar="I/N",
        help="make only part I of N, on any machine; `drtools gather` puts the parts together",
        rich_help_panel="Computing",
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="print estimated counts, memory and time, and stop"), Role.UNRECORDED]


@dataclass
class ConsoleFlags:
    """A file with flags, how much every tool prints, and how strict it is."""

    config: Annotated[
        str | None,
        Option(
            help="YAML file with flags, `max-query-tokens: 32`; those on the command line win",
            rich_help_panel="Configuration",
        ),
        Role.UNRECORDED,
    ] = None
    quiet: Annotated[
        bool, Option("--quiet", help="print nothing but errors", rich_help_panel="Messages"), Role.UNRECORDED
    ] = False
    log_json: Annotated[
        bool, Option("--log-json", help="print messages as JSON lines", rich_help_panel="Messages"), Role.UNRECORDED
    ] = False
    strict: Annotated[
        bool,
        Option(
            "--strict",
            help="exit with status 2 for anything that is otherwise only reported",
            rich_help_panel="Messages",
        ),
        Role.UNRECORDED,
    ] = False


def given_flags(values: dict[str, object]) -> list[str]:
    """Return the flags of the parameters that were given: those whose value is neither None nor False."""
    return [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None and value is not False]
