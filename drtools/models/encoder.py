"""A dense encoder: a Hugging Face body, pooling and a head.

Loaded from any encoder's folder, saved so that all can load it.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from drtools import console
from drtools.errors import UserError
from drtools.manifest import digest
from drtools.models.bodies import body_class, plain_config, positions_of, token_states, try_body
from drtools.models.heads import apply_head, make_head, save_head
from drtools.models.lora import has_lora
from drtools.models.module_files import POOLINGS
from drtools.models.pair import EncoderPair, halves, router_files
from drtools.models.pooling import pool
from drtools.models.rem import RemSettings, load_rem
from drtools.models.settings import (
    OURS,
    SIDES,
    EncoderSettings,
    fingerprints,
    head_dimension,
    is_pair,
    ours_as_json,
    read_settings,
    refuse_adapter,
    side_folder,
)
from drtools.models.source import resolve
from drtools.models.tokenizers import check_tokenizer, fit_tokenizer
from drtools.models.unused import check_unused
from drtools.models.weights import align_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass


class Encoder(nn.Module):
    """Token ids -> vectors.

    `folder` is where its weights were loaded from, `rem` the sizes of the relevance module that the body carries.
    """

    def __init__(
        self,
        body: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: EncoderSettings,
        head: nn.Sequential,
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.body, self.tokenizer, self.settings, self.head, self.folder = body, tokenizer, settings, head, folder
        self.rem: RemSettings | None = None
        self.rem_fingerprint: str | None = None

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return head_dimension(self.settings, self.body.config.hidden_size)

    def of(self, side: str) -> Encoder:
        """Return itself: the encoder of either side."""
        return self

    def side_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each side.

        The weights (a REM's too) as they were loaded, the settings as they are.
        """
        assert self.folder is not None, "weights that were never a folder have no fingerprint"
        found = fingerprints(self.folder, self.settings)
        if self.rem_fingerprint:
            found |= {
                side: digest([found[side], self.rem_fingerprint])
                for side in SIDES
                if side not in self.settings.inherited
            }
        return found

    def forward(self, token_ids: Tensor, mask: Tensor, prompt_tokens: int = 0) -> Tensor:  # [B, T], [B, T] -> [B, D]
        """Return float32 vectors; the first `prompt_tokens` of a text are read but not pooled."""
        states = token_states(self.body, token_ids, mask)
        if prompt_tokens:
            mask = mask.clone()
            mask[:, :prompt_tokens] = 0
        with torch.autocast(states.device.type, enabled=False):
            return apply_head(self.head, pool(states, mask, self.settings.pooling))


def _quietly() -> None:
    """Keep transformers' own notes and bars from a user who did not ask for them."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="transformers")


def load_encoder(
    name: str,
    pooling: str | None = None,
    trust_remote_code: bool = False,
    dropout: float | None = None,
    rem: str | None = None,
) -> Encoder | EncoderPair:
    """Load an encoder, or a pair of them, in float32, in eval mode, from a folder or a hub's name.

    `dropout` replaces its body's own.

    With the folder of a `rem` the encoder carries that relevance module, not yet folded in.
    """
    folder = resolve(name)
    if is_pair(folder):
        if rem:
            raise UserError(
                f"{folder}: a pair of encoders, on which no REM can be put; name one of its subfolders, query or "
                "document"
            )
        query, document = (_load(side_folder(folder, side), pooling, trust_remote_code, dropout) for side in SIDES)
        return EncoderPair(query, document, folder).eval()
    encoder = _load(folder, pooling, trust_remote_code, dropout)
    if rem:
        load_rem(encoder, Path(rem))
    return encoder


def _load(folder: Path, pooling: str | None, trust_remote_code: bool, dropout: float | None) -> Encoder:
    """Load what is no pair, without a REM."""
    settings = read_settings(folder, pooling)
    body, tokenizer = load_body(folder, trust_remote_code, dropout)
    fit_tokenizer(tokenizer, folder, settings.pooling, settings.lower_case)
    longest = positions_of(body)
    if longest:
        settings.max_query_tokens = min(settings.max_query_tokens, longest)
        settings.max_document_tokens = min(settings.max_document_tokens, longest)
    for note in settings.notes:
        console.notice(1, note)
    return Encoder(body, tokenizer, settings, make_head(settings, folder), folder).eval()


def load_body(
    folder: Path, trust_remote_code: bool = False, dropout: float | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a body and its tokenizer; safetensors alone are read."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            0
        )  # a pooler that the checkpoint lacks is drawn: nothing reads it, but it is saved and fingerprinted
        body, tokenizer, loading = load_weights(folder, body_class, trust_remote_code, dropout)
        refuse_missing([name for name in loading.missing if "pooler" not in name], body, folder)
        check_unused(loading.unexpected, folder, body.config.model_type, architectures=loading.architectures)
        try_body(body, tokenizer, folder)
    return body, tokenizer


class Loading(NamedTuple):
    """What of a checkpoint and a model did not meet: tensors that each lacks, by name, and the checkpoint's classes."""

    missing: list[str]
    unexpected: list[str]
    architectures: list[str]


def load_weights(
    folder: Path,
    class_of: Callable[[PreTrainedConfig, Path], type[_BaseAutoModelClass]],
    trust_remote_code: bool = False,
    dropout: float | None = None,
    **changes: object,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Loading]:
    """Load a Hugging Face model by the class that `class_of` chooses for its configuration, and its tokenizer.

    `changes` are made to the configuration. Tensors that the weights lack begin at random; the caller decides which
    may. Safetensors alone are read.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoTokenizer

    _quietly()
    refuse_adapter(folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: no .safetensors weights were found; pickled weights are not read, convert the model to "
            "safetensors first"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **changes)
        architectures = list(config.architectures or [])
        config, renamed = plain_config(config, folder)
        own_dropout = {} if dropout is None else _set_dropout(config, dropout, folder)
        if hasattr(config, "use_cache"):
            config.use_cache = False  # of keys and values, to continue a text: memory that nothing here would read
        config.return_dict = True  # transformers 4 wrote false into some files, and outputs would have no names
        model, loading = class_of(config, folder).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **({"key_mapping": renamed} if renamed else {}),
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder}: the model could not be loaded ({' '.join(str(error).split())[:300]})") from None
    align_weights(model)
    model.own_dropout = own_dropout
    check_tokenizer(tokenizer, model, folder)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"{folder}: its tokenizer has neither a padding nor an end token; add one to tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token  # masked out, so which one it is does not matter
    return (
        model,
        tokenizer,
        Loading(sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"]), architectures),
    )


def refuse_missing(missing: list[str], model: PreTrainedModel, folder: Path) -> None:
    """Refuse weights that lack tensors which may not begin at random."""
    if missing:
        raise UserError(
            f"{folder}: the weights lack {len(missing)} tensors of a {model.config.model_type} body (first: "
            f"{missing[0]}); it is not this body's checkpoint"
        )


def _set_dropout(config: PreTrainedConfig, dropout: float, folder: Path) -> dict[str, float]:
    """Set every dropout of a configuration that is a number (the names differ between families).

    Return what they were.
    """
    own = {
        name: value
        for name, value in config.to_dict().items()
        if "dropout" in name and isinstance(value, float | int) and not isinstance(value, bool)
    }
    if not own:
        raise UserError(f"--dropout: {folder} has no dropout in its configuration; leave the flag out")
    _set_all(config, dict.fromkeys(own, dropout))
    return own


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """Write a Hugging Face model, with its own dropout in place of what `load_weights` was asked for."""
    own = getattr(model, "own_dropout", {})  # a model made elsewhere has none
    asked = {name: getattr(model.config, name) for name in own}
    _set_all(model.config, own)
    model.save_pretrained(folder)
    _set_all(model.config, asked)


def _set_all(config: PreTrainedConfig, values: dict[str, float]) -> None:
    for name, value in values.items():
        setattr(config, name, value)


def save_encoder(encoder: Encoder | EncoderPair, folder: Path) -> dict[str, str]:
    """Write a folder that Hugging Face, sentence-transformers and this program load with the same vectors.

    A pair's two subfolders are such folders too. Returns the fingerprints of both sides.
    """
    if isinstance(encoder, EncoderPair):
        return _save_pair(encoder, folder)
    assert not has_lora(encoder) and not (encoder.rem and encoder.rem.adapter_size), (
        "merge_lora or fold_rem comes first"
    )
    folder.mkdir(parents=True, exist_ok=True)
    settings = encoder.settings
    save_weights(encoder.body, folder)
    as_new(encoder.tokenizer).save_pretrained(folder)
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


def as_new(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy without the truncation that tokenizing set, so that use changes no file and no fingerprint."""
    tokenizer = copy.deepcopy(tokenizer)  # a thread may be tokenizing with the one that is in use
    if tokenizer.truncation_side != "right":
        tokenizer.init_kwargs["truncation_side"] = tokenizer.truncation_side  # or it would be lost with the truncation
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _save_settings(settings: EncoderSettings, folder: Path) -> None:
    """Write the files that say lengths and prompts, and whose vectors these meet."""
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
    _write(folder / OURS, ours_as_json(settings))


def _save_pair(pair: EncoderPair, folder: Path) -> dict[str, str]:
    """Write both subfolders, each of which knows the other's fingerprint, and the files for both together."""
    for half in halves(pair):
        half.settings.inherited = {}
    saved = {side: save_encoder(pair.of(side), folder / side)[side] for side in SIDES}
    for side, other in (SIDES, SIDES[::-1]):
        pair.of(side).settings.inherited = {other: saved[other]}
        _save_settings(pair.of(side).settings, folder / side)
    for name, content in router_files(pair, folder).items():
        _write(folder / name, content)
    _write(folder / OURS, {"kind": "pair"})
    return saved


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
