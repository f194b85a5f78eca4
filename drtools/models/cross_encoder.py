"""A cross-encoder: a sequence classifier that reads a query and a document together and returns one logit."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from drtools import reporting
from drtools.errors import InputError, param
from drtools.models.bodies import check_body, of_one_length, padding_leaks, positions_of
from drtools.models.json_files import body_config, own_settings
from drtools.models.loading import load_weights, refuse_missing, save_weights, without_truncation
from drtools.models.module_files import CONFIG, CrossEncoderSettings, read_ranker
from drtools.models.module_keys import check_keys
from drtools.models.pair_template import template_of
from drtools.models.resolving import resolve
from drtools.models.settings import LONGEST_BY_DEFAULT, OURS, refuse_adapter, weights_fingerprint
from drtools.models.tokenizers import deviations, fit_tokenizer
from drtools.models.unused import check_unused
from drtools.outputs.disk import write_json
from drtools.outputs.fingerprints import digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KIND = "ranker"
CLASSIFIER = "ForSequenceClassification"
RAW_LOGITS = {
    "activation_fn": "torch.nn.modules.linear.Identity"
}  # the activation for sentence-transformers, whose default is a sigmoid
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"


class CrossEncoder(nn.Module):
    """Turns token ids of pairs into logits. `model` is the whole classifier, `folder` the origin of its weights.

    A query is cut at `max_query_tokens` and a document at `max_document_tokens`, both without special tokens. If the
    latter is None, the document gets the rest of `longest_pair`, which is the limit of the body's positions with
    special tokens.
    """

    dimension = 1

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, longest_pair: int
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.folder, self.longest_pair = model, tokenizer, folder, longest_pair
        self.template = template_of(tokenizer)
        self.max_query_tokens = (longest_pair - self.template.special) // 2  # [ours] so that each text has room
        self.max_document_tokens: int | None = None
        self.prompt = ""  # before each query
        self.lower_case = False
        self.head_is_new = False  # drawn at random, so its scores mean nothing yet
        self.typed = (
            "token_type_ids" in tokenizer.model_input_names
            and "token_type_ids" in inspect.signature(model.forward).parameters
        )
        for part in model.children():
            if part is not self.body:
                _keep_in_float32(part)

    @property
    def body(self) -> PreTrainedModel:
        """The transformer below the classifier's head."""
        return cast("PreTrainedModel", self.model.base_model)  # annotated as Module

    def of(self, side: str) -> CrossEncoder:
        """Return self: a cross-encoder has one side, the pair."""
        return self

    @property
    def max_pair_tokens(self) -> int:
        """The maximum number of tokens in a pair, including special tokens."""
        whole = self.longest_pair
        return (
            whole
            if self.max_document_tokens is None
            else min(whole, self.max_query_tokens + self.max_document_tokens + self.template.special)
        )

    def set_lengths(self, max_query_tokens: int | None, max_document_tokens: int | None) -> None:
        """Set the lengths that are not None. Raises InputError for a length that leaves no room for the other text."""
        room = self.longest_pair - self.template.special
        taken = len(self.tokenizer(self.prompt, add_special_tokens=False)["input_ids"]) if self.prompt else 0
        if max_query_tokens is not None and max_query_tokens <= taken:
            raise InputError(
                f"{self.folder} begins each query with a prompt of {taken} tokens",
                where=f"{param('max_query_tokens')} {max_query_tokens}",
                expected=f"{taken + 1} or more",
            )
        for name, value in (("max_query_tokens", max_query_tokens), ("max_document_tokens", max_document_tokens)):
            if value is None:
                continue
            if value >= room:
                raise InputError(
                    f"{self.folder} reads pairs of {room} tokens, without special tokens",
                    where=f"{param(name)} {value}",
                    remedy="use less",
                )
            setattr(self, name, value)

    def read_like(self, query_tokens: int, document_tokens: int) -> None:
        """Use the lengths of a student, without special tokens, as far as the positions allow."""
        room = self.longest_pair - self.template.special
        self.max_query_tokens = min(query_tokens, room // 2)
        self.max_document_tokens = document_tokens if document_tokens < room else None

    def fingerprint(self) -> str:
        """Return the fingerprint of all that changes the logit of a pair except the precision.

        It covers the weights as they were loaded, and the current lengths.
        """
        lengths = [self.longest_pair, self.max_query_tokens, self.max_document_tokens]
        odd = deviations(self.folder)
        odd |= {"prompt": self.prompt} if self.prompt else {}
        odd |= {"lower_case": True} if self.lower_case else {}
        # a model without deviations keeps its fingerprint of 0.1.0
        return digest([weights_fingerprint(self.folder), *lengths, *([odd] if odd else [])])

    def forward(
        self, token_ids: Tensor, mask: Tensor, types: Tensor | None = None
    ) -> Tensor:  # [B, T] three times -> [B, 1]
        """Return float32 logits. For two outputs, this is the second (positive) minus the first."""

        def logits_of(ids: Tensor, seen: Tensor | None, kinds: Tensor | None) -> Tensor:
            typed = {} if kinds is None else {"token_type_ids": kinds}
            logits: Tensor = self.model(input_ids=ids, attention_mask=seen, **typed).logits
            return logits.float()

        if bool(mask.all()):  # without padding no mask is needed, and attention without one is faster
            logits = logits_of(token_ids, None, types)
        elif padding_leaks(self.model):
            logits = of_one_length(
                mask,
                lambda rows, length: logits_of(
                    token_ids[rows, :length], None, None if types is None else types[rows, :length]
                ),
            )
        else:
            logits = logits_of(token_ids, mask, types)
        return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits


def load_cross_encoder(name: str, trust_remote_code: bool = False, dropout: float | None = None) -> CrossEncoder:
    """Load a finished cross-encoder with one or two outputs, in float32 and eval mode, from a folder or a hub name.

    `dropout` replaces the dropout of its configuration.
    """
    return _load(name, trust_remote_code, dropout)


def new_cross_encoder(
    name: str, seed: int, trust_remote_code: bool = False, dropout: float | None = None
) -> CrossEncoder:
    """Load the start model of a ranker's training.

    This is a cross-encoder, whose two outputs are made one, or any body or encoder, which gets a random head of one
    output drawn with `seed`.
    """
    return _load(name, trust_remote_code, dropout, seed)


def _load(name: str, trust_remote_code: bool, dropout: float | None, seed: int | None = None) -> CrossEncoder:
    from transformers import AutoModelForSequenceClassification

    folder = resolve(name)
    refuse_adapter(folder)
    has_head = _check(folder, name, finished=seed is None)
    files = read_ranker(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        model, tokenizer, loading = load_weights(
            folder,
            lambda config, folder: AutoModelForSequenceClassification,
            trust_remote_code,
            dropout,
            **({} if has_head else {"num_labels": 1}),
        )
        below = f"{model.base_model_prefix}."
        needed = [name for name in loading.missing if has_head or (name.startswith(below) and "pooler" not in name)]
        refuse_missing(needed, model, folder)
        check_unused(
            loading.unexpected,
            folder,
            model.config.model_type,
            classifier=not has_head,
            architectures=loading.architectures,
        )
        fit_tokenizer(tokenizer, folder, lower_case=files.lower_case)
        model.config.pad_token_id = tokenizer.pad_token_id
        check_body(model, tokenizer, folder)
    outputs = model.config.num_labels
    assert outputs is not None, "a classifier has outputs"
    if outputs > 2:
        raise InputError(
            f"a classifier of {outputs} outputs",
            where=name,
            expected="a cross-encoder with one output, or with two where the second means relevant",
        )
    if seed is not None and outputs == 2:
        _make_one_of_two(model, name)
    encoder = _made_of(model, tokenizer, folder, files)
    encoder.head_is_new = not has_head
    reporting.notice(
        has_head and tokenizer.chat_template is not None and not (folder / "modules.json").exists(),
        f"{folder}: its tokenizer has a chat template, which is not used: a pair is joined only by the special tokens "
        "of the tokenizer",
    )
    return encoder.eval()


def _made_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, files: CrossEncoderSettings
) -> CrossEncoder:
    """Build a cross-encoder with the lengths and prompts in its files, and report problems in the files."""
    ours: dict[str, Any] = own_settings(folder)
    ours = ours if ours.get("kind") == KIND else {}
    check_keys(ours, "a ranker's drtools.json", folder / OURS, files.notes)
    limits = (files.longest or tokenizer.model_max_length, positions_of(model))
    known = [length for length in limits if length and length < 1e7]
    encoder = CrossEncoder(model, tokenizer, folder, ours.get("longest_pair", min(known, default=LONGEST_BY_DEFAULT)))
    encoder.prompt, encoder.lower_case = files.prompt, files.lower_case
    encoder.set_lengths(ours.get("max_query_tokens"), ours.get("max_document_tokens"))
    for note in files.notes:
        reporting.notice(1, note)
    return encoder


def _make_one_of_two(model: PreTrainedModel, name: str) -> None:
    """Replace two outputs by their difference, so that every program reads the same single logit."""
    below = set(model.base_model.modules())
    last = [
        part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == 2 and part not in below
    ]
    if len(last) != 1:
        raise InputError(
            "a classifier of two outputs that are not those of one linear layer",
            where=name,
            expected="a cross-encoder with one output, or a body",
        )
    for key, parameter in list(last[0].named_parameters()):
        setattr(last[0], key, nn.Parameter(parameter.detach()[1:] - parameter.detach()[:1]))
    last[0].out_features = model.config.num_labels = 1
    model.num_labels = 1  # type: ignore[assignment]  # in torch's stub, modules only hold tensors and modules


def _check(folder: Path, name: str, finished: bool) -> bool:
    """Return whether a folder holds a classifier with its head.

    With `finished`, raises InputError for any other model.
    """
    if not (folder / "config.json").exists():
        raise InputError(
            "no config.json was found",
            where=name,
            expected="a Hugging Face model or a cross-encoder of sentence-transformers",
        )
    architectures = body_config(folder).get("architectures") or []
    has_head = any(word.endswith(CLASSIFIER) for word in architectures)
    if finished and not has_head:
        raise InputError(
            f"found {', '.join(architectures) or 'a body'}",
            where=name,
            expected="a cross-encoder (a sequence classifier)",
            remedy="make one with `drtools train-ranker`",
        )
    return has_head


def save_cross_encoder(encoder: CrossEncoder, folder: Path) -> str:
    """Write a folder that transformers, sentence-transformers' CrossEncoder and drtools load with the same logits.

    Returns its fingerprint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder.model.config.sentence_transformers = RAW_LOGITS
    save_weights(encoder.model, folder)
    tokenizer = without_truncation(encoder.tokenizer)
    tokenizer.model_max_length = encoder.max_pair_tokens
    tokenizer.chat_template = None  # otherwise sentence-transformers would format each pair with it
    tokenizer.save_pretrained(folder)
    for name, content in _prompt_files(encoder).items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    lengths = {name: getattr(encoder, name) for name in ("longest_pair", "max_query_tokens", "max_document_tokens")}
    write_json(folder / OURS, {"kind": KIND, **lengths})
    encoder.folder = folder  # the weights are here now
    return encoder.fingerprint()


def _prompt_files(encoder: CrossEncoder) -> dict[str, object]:
    """Return files for sentence-transformers that set a prompt or lower case, by name; none without these settings."""
    if not encoder.prompt and not encoder.lower_case:
        return {}
    prompts = {"query": encoder.prompt} if encoder.prompt else {}
    return {
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": TRANSFORMER}],
        "sentence_bert_config.json": {
            "transformer_task": "sequence-classification",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "scores",
            "do_lower_case": encoder.lower_case,
        },
        CONFIG: {
            "model_type": "CrossEncoder",
            "prompts": prompts,
            "default_prompt_name": next(iter(prompts), None),
            "activation_fn": RAW_LOGITS["activation_fn"],
        },
    }


def _keep_in_float32(part: nn.Module) -> None:
    """Compute a part of the head in float32, whatever the input and autocast are.

    In bfloat16, logits near 8 would be 0.06 apart.
    """
    plain: Callable[..., object] = type(part).forward

    def forward(part: nn.Module, *inputs: object, **named: object) -> object:
        device = next((value.device.type for value in inputs if isinstance(value, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return plain(
                part,
                *(_as_float32(value) for value in inputs),
                **{name: _as_float32(value) for name, value in named.items()},
            )

    part.forward = MethodType(forward, part)  # in a copy of the part, it is bound to the copy


def _as_float32(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
