"""Flags that several tools share: a dataclass for each group, expanded into a tool's signature by the command line."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated

from typer import Option


class Role(Enum):
    """What a flag's value is, for the request that decides whether two commands are the same."""

    INPUT = auto()  # a file or folder: its content counts, not its name
    UPDATED = auto()  # the same, and the output may take its place
    MODEL = auto()  # a folder, or a name on the hub
    UNRECORDED = auto()  # changes how the work is done or told, never its result


INPUTS = (Role.INPUT, Role.UPDATED, Role.MODEL)

Documents = Annotated[str, Option(help="corpus: JSONL or TSV, `.gz` or `-`"), Role.INPUT]
Queries = Annotated[str, Option(help="queries: JSONL or TSV, `.gz` or `-`"), Role.INPUT]
Qrels = Annotated[str, Option(help="judgements: BEIR TSV or TREC"), Role.INPUT]
MinRel = Annotated[int, Option(min=0, help="lowest grade that counts as relevant")]
Only = Annotated[str | None, Option(help="qrels: keep the queries that they judge"), Role.INPUT]
IgnoreIdenticalIds = Annotated[
    bool,
    Option(
        "--ignore-identical-ids",
        help="leave the document with the query's own id out of each list, as BEIR does (ArguAna, Quora)",
    ),
]
Seed = Annotated[int, Option(help="seed of every random choice")]
Threads = Annotated[int, Option(min=0, help="processor threads; 0: all, or OMP_NUM_THREADS"), Role.UNRECORDED]
TitleSeparator = Annotated[str, Option(help="between a document's title and its text")]
DryRun = Annotated[bool, Option("--dry-run", help="print counts, memory and time, and do nothing"), Role.UNRECORDED]


@dataclass
class ConsoleFlags:
    """What every tool says and how strict it is."""

    quiet: Annotated[
        bool, Option("--quiet", help="print nothing but errors", rich_help_panel="Messages"), Role.UNRECORDED
    ] = False
    log_json: Annotated[
        bool, Option("--log-json", help="messages as JSON lines", rich_help_panel="Messages"), Role.UNRECORDED
    ] = False
    strict: Annotated[
        bool,
        Option("--strict", help="exit 2 where something odd is otherwise only counted", rich_help_panel="Messages"),
        Role.UNRECORDED,
    ] = False


def given_flags(values: dict[str, object]) -> list[str]:
    """Return the flags of parameters that were said, those whose value is neither None nor False."""
    return [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None and value is not False]
