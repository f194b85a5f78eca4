"""Merge a body and a relevance module into one plain model folder, or two encoders into one folder of a pair.

Every tool here, Hugging Face and sentence-transformers load it. LoRA is added to the weights; the parallel adapter
becomes more neurons of each feed-forward block. Vectors are the same to 1e-5. Their fingerprint is another: search
refuses the pair's vectors with the merged folder, so merge before encoding. A gated block (ModernBERT) has no room for
an adapter; such a pair is refused.

    drtools merge --body target-dam --rem rem -o target-encoder
    drtools merge --model query-encoder --document-model document-encoder -o pair

The second line copies two encoders that were trained together, or a pair folder that was written by hand (--model
PAIR), into a finished pair, which publish and sentence-transformers take. It encodes and searches, also vectors that
the two had made before.
"""

from __future__ import annotations

from drtools import reporting
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs.opening import open_folder


def main(folder: FolderOutput, encoder_flags: EncoderFlags) -> None:
    """Compose: load the body with its REM, fold it in, write the folder; or load two encoders and write them."""
    name = encoder_flags.start()
    if not encoder_flags.rem:
        return merge_pair(folder, encoder_flags)
    with open_folder(folder) as work:
        from drtools.models.encoder_files import save_encoder
        from drtools.models.loader import load_named

        fingerprints = save_encoder(load_named(encoder_flags, rem="must-fold"), work.path)
        work.finish(
            kind="encoder",
            base=name,
            rem=encoder_flags.rem,
            **{f"{side}_fingerprint": value for side, value in fingerprints.items()},
        )
    reporting.say(f"{folder.output}: one model of {name} and {encoder_flags.rem}")


def merge_pair(folder: FolderOutput, encoder_flags: EncoderFlags) -> None:
    """Write two encoders that belong together as one folder, each of which knows the other."""
    with open_folder(folder) as work:
        from drtools.models.encoder_files import copy_pair
        from drtools.models.loader import load_named
        from drtools.models.pair import EncoderPair
        from drtools.models.sides import side_folders

        folders = side_folders(encoder_flags.start(), encoder_flags.document_model)
        if folders["query"] == folders["document"]:
            raise InputError(
                "there is nothing to merge",
                where="--model alone",
                remedy="pass --body BODY --rem REM, or --model QUERY-ENCODER --document-model DOCUMENT-ENCODER",
            )
        encoder = load_named(encoder_flags, folders=folders)
        assert isinstance(encoder, EncoderPair), "two folders make a pair"
        fingerprints = copy_pair(encoder, work.path)
        work.finish(
            kind="encoder",
            base=encoder_flags.start(),
            **({"document_base": encoder_flags.document_model} if encoder_flags.document_model else {}),
            **{f"{side}_fingerprint": value for side, value in fingerprints.items()},
        )
    reporting.say(f"{folder.output}: a pair of encoders, {encoder_flags.names}")
