"""Put the parts of an output together that several machines made with --part.

    drtools gather vectors-1 vectors-2 -o gathered
    drtools encode --model star --corpus corpus.jsonl.gz --part 1/2 -o vectors-1
    drtools encode --model star --corpus corpus.jsonl.gz --part 2/2 -o vectors-2

Takes the parts of encode, teacher-score or mine-negatives in any order. The output has the bytes of the whole: what one
machine writes without --part. Its manifest has the request of the whole, so that the same command without --part and
with the same -o is already done. It also lists the parts. A stopped gather of vectors continues where it was.

Parts must have the same command, inputs, and versions of drtools and torch. A part that is missing, given twice, or of
another output is refused by its name.

--shards copies no vectors. The output is a small folder that names the folders of the parts, which must stay where they
are. Every tool reads it as the whole, with the same results.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Role
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.outputs.opening import open_file, open_folder
from drtools.outputs.parts import gather_file, open_parts, origins, replace_request, whole_request
from drtools.units import counted


def main(
    file: FileOutput,
    parts: Annotated[list[str], Argument(help="all parts of one output, in any order"), Role.INPUT],
    shards: Annotated[
        bool, Option("--shards", help="do not copy vectors: the output names the folders of the parts")
    ] = False,
) -> None:
    """Write the whole."""
    opened = open_parts(parts)
    replace_request(file.request, whole_request(opened))
    if shards:
        file.request["arguments"]["shards"] = True
    together = f"from {counted(len(opened), 'part')}"
    if opened[0].record["kind"] != "vectors":
        if shards:
            raise InputError(
                f"{opened[0].record['kind']} cannot stay in shards", where="--shards", remedy="leave it out"
            )
        with open_file(file) as work:
            gather_file(work, opened)
        return reporting.say(f"{file.output}: {opened[0].record['kind']} {together}")
    if file.output == "-":
        raise InputError("vectors are a folder, and cannot be written to standard output", remedy="use -o FOLDER")
    with open_folder(file) as work:
        from drtools.encoding.parts import GatheredVectors, gather_shards

        made = gather_shards(work, opened) if shards else GatheredVectors(work, opened).run()
        work.finish(**made.record(), gathered=origins(opened))
    reporting.say(f"{file.output}: {counted(made.count, 'vector')} of {made.dimension} dimensions, {together}")
