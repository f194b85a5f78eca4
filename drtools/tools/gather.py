"""Put the parts of an output together that several machines made with --part.

    drtools gather vectors-1 vectors-2 -o gathered
    drtools encode --model star --corpus corpus.jsonl.gz --part 1/2 -o vectors-1
    drtools encode --model star --corpus corpus.jsonl.gz --part 2/2 -o vectors-2

Takes the parts of encode in any order. The output has the bytes of the whole: what one machine writes without --part.
Its manifest has the request of the whole, so that encode without --part and with the same -o is already done. It also
lists the parts. A stopped gather continues where it was.

Parts must have the same command, inputs, and versions of drtools and torch. A part that is missing, given twice, or of
another output is refused by its name.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from drtools import reporting
from drtools.cli.flags.common import Role
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs.opening import open_folder
from drtools.outputs.parts import open_parts, origins, replace_request, whole_request
from drtools.units import counted


def main(
    folder: FolderOutput,
    parts: Annotated[list[str], Argument(help="all parts of one output, in any order"), Role.INPUT],
) -> None:
    """Write the whole."""
    opened = open_parts(parts)
    replace_request(folder.request, whole_request(opened))
    if opened[0].record["kind"] != "vectors":
        raise InputError(f"{opened[0].record['kind']} cannot be gathered", where=opened[0].path)
    with open_folder(folder) as work:
        from drtools.encoding.parts import GatheredVectors

        made = GatheredVectors(work, opened).run()
        work.finish(**made.record(), gathered=origins(opened))
    reporting.say(
        f"{folder.output}: {counted(made.count, 'vector')} of {made.dimension} dimensions, from "
        f"{counted(len(opened), 'part')}"
    )
