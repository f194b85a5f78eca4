"""Flags for outputs."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import Role
from drtools.outputs.specs import OutputSpec

Overwrite = Annotated[bool, Option("--overwrite", help="start again, and replace an existing output"), Role.UNRECORDED]
Renew = Annotated[
    bool,
    Option(
        "--renew",
        help="for Makefiles: replace the output of a different command, keep or continue the output of this one",
    ),
    Role.UNRECORDED,
]


@dataclass(frozen=True)
class FolderOutput(OutputSpec):
    """An output folder."""

    output: Annotated[str, Option("-o", "--output", help="folder to write"), Role.UNRECORDED]
    overwrite: Overwrite = False
    renew: Renew = False


@dataclass(frozen=True)
class FileOutput(OutputSpec):
    """An output file, or standard output."""

    output: Annotated[str, Option("-o", "--output", help="file to write; `-`: standard output"), Role.UNRECORDED] = "-"
    overwrite: Overwrite = False
    renew: Renew = False
