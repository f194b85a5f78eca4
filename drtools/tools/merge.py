"""Merge a body and a relevance module (REM), or two encoders, into one folder.

    drtools merge --body target-dam --rem rem -o target-encoder
    drtools merge --model adore --document-model star -o pair

All tools here, Hugging Face and sentence-transformers can load the result.

A relevance module (train-rem) is a LoRA and a parallel adapter, for any body that mlm-adapt adapted. LoRA is added to
the weights; the parallel adapter becomes additional neurons of each feed-forward block. Vectors are the same to 1e-5,
but the fingerprint changes: search refuses vectors of the unmerged body and module with the merged folder. So merge
before you encode. A gated feed-forward block (ModernBERT) cannot take in an adapter; merging is then refused.

A LoRA of peft (--model LORA) is added to the base model that its adapter_config.json names. Other tools load such a
folder by its name too, without merging it first.

The second command copies two encoders that were trained together, or a pair folder that was written by hand (--model
PAIR), into one folder, which publish and sentence-transformers can read. Vectors that the two encoders made before stay
valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drtools import reporting
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs.opening import open_folder

if TYPE_CHECKING:
    from pathlib import Path

    from drtools.outputs.work import Work


def main(folder: FolderOutput, encoder_flags: EncoderFlags) -> None:
    """Fold a REM into its body and write the folder; or write two encoders as one folder."""
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
    """Write two encoders that belong together as one folder, each with the fingerprint of the other."""
    with open_folder(folder) as work:
        from drtools.models.encoder_files import copy_pair
        from drtools.models.loader import load_named
        from drtools.models.lora_files import added_lora
        from drtools.models.pair import EncoderPair
        from drtools.models.sides import side_folders

        folders = side_folders(encoder_flags.start(), encoder_flags.document_model)
        if added_lora(folders["query"]) is not None and not encoder_flags.document_model:
            return merge_lora(work, folder.output, encoder_flags, folders)
        if folders["query"] == folders["document"]:
            raise InputError(
                "there is nothing to merge",
                where="--model without --document-model",
                remedy="pass --body BODY --rem REM, --model LORA, or --model QUERY-ENCODER --document-model "
                "DOCUMENT-ENCODER",
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


def merge_lora(work: Work, output: str, encoder_flags: EncoderFlags, folders: dict[str, Path]) -> None:
    """Write the base model of a LoRA with the LoRA in its weights: an encoder, or a cross-encoder."""
    from drtools.models.cross_encoder import load_cross_encoder, save_cross_encoder
    from drtools.models.encoder_files import save_encoder
    from drtools.models.generative import kind_of
    from drtools.models.loader import load_named

    name = encoder_flags.start()
    if kind_of(folders["query"]) == "classifier":
        ranker = load_cross_encoder(name, encoder_flags.trust_remote_code)
        work.finish(kind="ranker", base=name, ranker_fingerprint=save_cross_encoder(ranker, work.path))
        return reporting.say(f"{output}: a cross-encoder, {name} in its base model")
    fingerprints = save_encoder(load_named(encoder_flags, folders=folders), work.path)
    sides = {f"{side}_fingerprint": value for side, value in fingerprints.items()}
    work.finish(kind="encoder", base=name, **sides)
    return reporting.say(f"{output}: an encoder, {name} in its base model")
