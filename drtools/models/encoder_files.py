"""Load encoders from folders, and save them so that other programs can load them too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from drtools import reporting, units
from drtools.errors import InputError
from drtools.models.bodies import body_class, check_body, positions_of
from drtools.models.encoder import Encoder
from drtools.models.heads import make_head, save_head
from drtools.models.loading import load_outline, load_weights, refuse_missing, save_weights, without_truncation
from drtools.models.lora import has_lora
from drtools.models.module_files import POOLINGS
from drtools.models.pair import EncoderPair, halves, router_files
from drtools.models.settings import (
    OURS,
    SIDES,
    EncoderSettings,
    fingerprints,
    ours_as_json,
    read_settings,
)
from drtools.models.specs import Precision
from drtools.models.tokenizers import fit_tokenizer
from drtools.models.unused import check_unused

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_folder(
    folder: Path,
    settings: EncoderSettings,
    trust_remote_code: bool = False,
    dropout: float | None = None,
    precision: Precision = "fp32",
) -> Encoder:
    """Load the encoder of a folder that is not a pair, with the `settings` that were read from its files."""
    body, tokenizer = load_body(folder, trust_remote_code, dropout, precision)
    _fit(settings, tokenizer, body, folder)
    return Encoder(body, tokenizer, settings, make_head(settings, folder), folder).eval()


class TextReader(NamedTuple):
    """The parts of an encoder that read texts, without its weights. `positions` is the body's maximum of tokens."""

    tokenizer: PreTrainedTokenizerBase
    settings: EncoderSettings
    folder: Path
    positions: int | None


def load_reader(folder: Path, settings: EncoderSettings, trust_remote_code: bool = False) -> TextReader:
    """Load the parts of an encoder that read texts, without its weights."""
    body, tokenizer = load_outline(folder, body_class, trust_remote_code)
    _fit(settings, tokenizer, body, folder)
    return TextReader(tokenizer, settings, folder, positions_of(body))


def _fit(settings: EncoderSettings, tokenizer: PreTrainedTokenizerBase, body: PreTrainedModel, folder: Path) -> None:
    """Adapt tokenizer and lengths to each other and to the body, and report problems in the files."""
    fit_tokenizer(tokenizer, folder, settings.pooling, settings.lower_case)
    longest = positions_of(body)
    if longest:
        settings.max_query_tokens = min(settings.max_query_tokens, longest)
        settings.max_document_tokens = min(settings.max_document_tokens, longest)
    special = tokenizer.num_special_tokens_to_add()
    least = min(settings.max_tokens(side) for side in SIDES)
    if least <= special:
        raise InputError(
            (
                f"its files cut texts at {units.counted(least, 'token')}, and the special tokens of a text alone are "
                f"{special}"
            ),
            where=folder,
            expected=f"{special + 1} or more, as max_seq_length in sentence_bert_config.json",
        )
    for note in settings.notes:
        reporting.notice(1, note)


def load_body(
    folder: Path, trust_remote_code: bool = False, dropout: float | None = None, precision: Precision = "fp32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a body, in `precision`, and its tokenizer. Only safetensors are read."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            0
        )  # seeded, since a missing pooler is drawn; it is never used, but it is saved and fingerprinted
        body, tokenizer, loading = load_weights(folder, body_class, trust_remote_code, dropout, precision)
        refuse_missing([name for name in loading.missing if "pooler" not in name], body, folder)
        check_unused(loading.unexpected, folder, body.config.model_type, architectures=loading.architectures)
        check_body(body, tokenizer, folder)
    return body, tokenizer


def save_encoder(encoder: Encoder | EncoderPair[Encoder], folder: Path) -> dict[str, str]:
    """Write a folder that transformers, sentence-transformers and drtools load with the same vectors.

    The two subfolders of a pair are such folders too. Returns the fingerprints of both sides.
    """
    if isinstance(encoder, EncoderPair):
        return _save_pair(encoder, folder)
    assert not has_lora(encoder) and not (encoder.rem and encoder.rem.adapter_size), (
        "merge_lora or fold_rem comes first"
    )
    folder.mkdir(parents=True, exist_ok=True)
    settings = encoder.settings
    save_weights(encoder.body, folder)
    without_truncation(encoder.tokenizer).save_pretrained(folder)
    _write(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": encoder.body.config.hidden_size,
            "include_prompt": settings.include_prompt,
            **{key: ours in settings.pooling for ours, (key, _) in POOLINGS.items()},
        },
    )
    pooled = encoder.body.config.hidden_size * len(settings.pooling)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *save_head(encoder.head, settings, folder, pooled)]
    _write(
        folder / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
    )
    _save_settings(settings, folder)
    return fingerprints(folder, read_settings(folder))


def _save_settings(settings: EncoderSettings, folder: Path, same_as: dict[str, str] | None = None) -> None:
    """Write the files with lengths, prompts and the fingerprints of related encoders."""
    longest = max(settings.max_tokens(side) for side in SIDES if side not in settings.inherited)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": settings.lower_case})
    prompts = {"query": settings.query_prompt, "document": settings.document_prompt}
    last = settings.head[-1] if settings.head else {}
    _write(
        folder / "config_sentence_transformers.json",
        {
            "prompts": prompts,
            "default_prompt_name": None,
            "similarity_fn_name": settings.similarity_word,
            **({"truncate_dim": last["out"]} if last.get("kind") == "truncate" else {}),
        },
    )
    _write(folder / OURS, ours_as_json(settings) | ({"same_as": same_as} if same_as else {}))


def copy_pair(pair: EncoderPair[Encoder], folder: Path) -> dict[str, str]:
    """Write a pair as it was loaded, so that vectors of its encoders still belong to it.

    The sides keep their fingerprints although transformers writes other bytes.
    """
    return _save_pair(pair, folder, pair.side_fingerprints())


def _save_pair(pair: EncoderPair[Encoder], folder: Path, originals: dict[str, str] | None = None) -> dict[str, str]:
    """Write both subfolders, each with the fingerprint of the other, and the files of the pair.

    With the fingerprints of `originals`, the sides are written as copies of these.
    """
    for half in halves(pair):
        half.settings.inherited = {}
    own = {side: save_encoder(pair.of(side), folder / side)[side] for side in SIDES}
    saved = originals or own
    for side, other in (SIDES, SIDES[::-1]):
        pair.of(side).settings.inherited = {other: saved[other]}
        _save_settings(pair.of(side).settings, folder / side, {own[side]: saved[side]} if originals else None)
    for name, content in router_files(pair, folder).items():
        _write(folder / name, content)
    _write(folder / OURS, {"kind": "pair"})
    return saved


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
