"""Merge a body and a relevance module into one plain model folder.

Every tool here, Hugging Face and sentence-transformers load it. LoRA is added to the weights; the parallel adapter
becomes more neurons of each feed-forward block. Vectors are the same to 1e-5. Their fingerprint is another: search
refuses the pair's vectors with the merged folder, so merge before encoding. A gated block (ModernBERT) has no room for
an adapter; such a pair is refused.

    drtools merge --body target-dam --rem rem -o target-encoder
"""

from __future__ import annotations

from drtools import console, flags, output
from drtools.errors import UserError


def main(folder: flags.FolderOutput, encoder_flags: flags.EncoderFlags) -> None:
    """Compose: load the body with its REM, fold it in, write the folder."""
    name = encoder_flags.start()
    if not encoder_flags.rem:
        raise UserError("--model alone: there is nothing to merge; say --body BODY --rem REM")
    with output.folder(folder) as work:
        from drtools.models.encoder import Encoder, load_encoder, save_encoder
        from drtools.models.rem import check_folds, fold_rem
        from drtools.retrieval.encoding import apply_flags

        encoder = load_encoder(name, encoder_flags.pooling, encoder_flags.trust_remote_code, rem=encoder_flags.rem)
        assert isinstance(encoder, Encoder), "no REM is put on a pair"
        check_folds(encoder)
        apply_flags(encoder, encoder_flags)
        fold_rem(encoder)
        fingerprints = save_encoder(encoder, work.path)
        work.finish(
            kind="encoder",
            base=name,
            rem=encoder_flags.rem,
            **{f"{side}_fingerprint": value for side, value in fingerprints.items()},
        )
    console.say(f"{folder.output}: one model of {name} and {encoder_flags.rem}")
