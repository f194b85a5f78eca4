"""LoRA of peft, merged into the model that it was trained on."""

from __future__ import annotations

from pathlib import Path

from drtools.errors import InputError
from drtools.models.encoder import Encoder
from drtools.models.loader import load_encoder
from drtools.models.lora_files import CONFIG, merge, read_lora
from drtools.models.pair import EncoderPair
from drtools.models.published.pickles import read_weights
from drtools.models.published.specs import ImportSpec


def import_lora(spec: ImportSpec, place: Path) -> Encoder:
    """Make the encoder of a folder with a LoRA of peft: the model that it names, with the LoRA in its weights."""
    encoder = load_encoder(read_lora(place).base, spec.pooling)
    if isinstance(encoder, EncoderPair):
        raise InputError("names a pair of encoders as its base model", where=place / CONFIG)
    own = f"{encoder.body.base_model_prefix}."
    merge(encoder.body, place, lambda file: read_weights(file)[0], spec.checkpoint, own)
    encoder.folder = None
    return encoder
