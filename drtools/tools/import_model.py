"""Import a published checkpoint: an encoder, a pair of encoders, or a REM.

    drtools import-model Luyu/co-condenser-marco --pooling cls -o condenser
    drtools import-model facebook/contriever -o contriever

CHECKPOINT is a file, a folder, an archive (zip, tar), or a name on the hub. Its program is recognised by the names of
its tensors: DRhard (STAR, ADORE), ANCE, JPQ, RepCONC, DPR, dpr-scale (SPAR's Lambda, a dense encoder that imitates a
sparse retriever, and DRAGON), Contriever, the adapter library (DDR's REM, a relevance module), or a body by itself
(coCondenser, DDR's DAMs, which are domain-adapted modules, Contriever and DRAGON of transformers). Every tensor is
used, known to be of no use, or named in an error. Reading pickled weights never runs code.

Files of other programs often lack a tokenizer: `drtools import-model hf_bert_base.cp --tokenizer bert-base-uncased -o
dpr`. Two encoders that belong together become one folder: `drtools import-model QUERY --document-checkpoint DOCUMENT
--pooling cls -o pair`. docs/compatibility.md lists checkpoints with their commands.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Role
from drtools.cli.flags.outputs import FolderOutput
from drtools.outputs.opening import open_folder


def main(
    folder: FolderOutput,
    checkpoint: Annotated[
        str,
        Argument(help="file, folder or archive of the checkpoint, or NAME or NAME@REVISION on the hub"),
        Role.MODEL,
    ],
    document_checkpoint: Annotated[
        str | None, Option(help="separate checkpoint for documents; the other then encodes queries only"), Role.MODEL
    ] = None,
    tokenizer: Annotated[
        str | None,
        Option(help="model whose tokenizer is taken, and whose config.json if the checkpoint has none"),
        Role.MODEL,
    ] = None,
    pooling: Annotated[
        str | None, Option(help="pooling of a checkpoint that does not say it: cls, mean, max or last")
    ] = None,
    prefix_space: Annotated[
        bool | None,
        Option(
            "--prefix-space/--no-prefix-space",
            help="read the first word of a text as one after a space; default: as its program did",
        ),
    ] = None,
    lower_case: Annotated[
        bool | None,
        Option("--lower-case/--no-lower-case", help="read texts in lower case; default: as its program did"),
    ] = None,
) -> None:
    """Read a checkpoint and write the folder."""
    with open_folder(folder) as work:
        from drtools.models.published.importing import import_model
        from drtools.models.published.specs import ImportSpec

        spec = ImportSpec(checkpoint, document_checkpoint, tokenizer, pooling, prefix_space, lower_case)
        made = import_model(work, spec)
    reporting.say(f"{folder.output}: {made}")
