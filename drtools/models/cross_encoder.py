"""Load and save cross-encoders: sequence classifiers, and language models that score pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from drtools import reporting
from drtools.errors import InputError, param
from drtools.models.bodies import check_body, positions_of
from drtools.models.cross_encoder_model import CrossEncoder, Scoring
from drtools.models.generative import Form, Kind, form_of, kind_of, load_generative, template_for
from drtools.models.json_files import body_config, own_settings
from drtools.models.loading import load_weights, refuse_missing, save_weights, without_truncation
from drtools.models.lora_files import added_lora
from drtools.models.module_files import CONFIG
from drtools.models.module_keys import check_keys
from drtools.models.pooled_ranker import PooledRanker, load_pooled
from drtools.models.ranker_files import CrossEncoderSettings, has_ranker_files, read_ranker
from drtools.models.resolving import resolve
from drtools.models.settings import LONGEST_BY_DEFAULT, OURS, refuse_adapter
from drtools.models.specs import Precision, ReadingSpec
from drtools.models.text_template import TextTemplate
from drtools.models.tokenizers import fit_tokenizer
from drtools.models.unused import check_unused
from drtools.outputs.disk import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KIND = "ranker"
RAW_LOGITS = {
    "activation_fn": "torch.nn.modules.linear.Identity"
}  # the activation for sentence-transformers, whose default is a sigmoid
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"


def load_cross_encoder(
    name: str,
    trust_remote_code: bool = False,
    dropout: float | None = None,
    reading: ReadingSpec = ReadingSpec(),
    precision: Precision = "fp32",
) -> CrossEncoder:
    """Load a finished cross-encoder in eval mode, from a folder or a hub name.

    It is a classifier with one or two outputs, a body with a pooling and a head, or a language model that scores pairs;
    `reading` says how it reads them where its files do not. Weights that are stored in 16 bits are loaded in
    `precision`, others in float32. `dropout` replaces the dropout of its configuration.
    """
    folder = resolve(name)
    refuse_adapter(folder)
    kind = _check(folder, name)
    files = read_ranker(folder)
    form = form_of(kind, folder, name, files, reading)
    if kind == "classifier":
        model, tokenizer = _load_classifier(folder, name, files, trust_remote_code, dropout, precision=precision)
        return _made_of(model, tokenizer, folder, form, None).eval()
    if kind == "pooled":
        pooled, tokenizer = load_pooled(folder, files, trust_remote_code, dropout, precision)
        return _made_of(pooled, tokenizer, folder, form, None).eval()
    _check_is_ranker(form, folder, name)
    model, tokenizer, scoring = load_generative(form, folder, trust_remote_code, dropout, precision)
    return _made_of(model, tokenizer, folder, form, scoring).eval()


def new_cross_encoder(
    name: str, seed: int, trust_remote_code: bool = False, dropout: float | None = None
) -> CrossEncoder:
    """Load the start model of a ranker's training.

    This is a classifier, whose two outputs are made one, or any body or encoder, which gets a random head of one
    output drawn with `seed`.
    """
    folder = resolve(name)
    refuse_adapter(folder)
    _check_config(folder, name)
    files = read_ranker(folder)
    if files.chat or files.score_tokens or files.layers:
        raise InputError(
            "its modality_config has 'message' or its modules a LogitScore or a Pooling: rankers are trained without "
            "them",
            where=folder,
            remedy="pass the body that it was made from",
        )
    finished = kind_of(folder) == "classifier"
    model, tokenizer = _load_classifier(folder, name, files, trust_remote_code, dropout, None if finished else seed)
    if model.config.num_labels == 2:
        _make_one_of_two(model, name)
    encoder = _made_of(model, tokenizer, folder, Form("classifier", None, files, ReadingSpec()), None)
    encoder.head_is_new = not finished
    return encoder.eval()


def _load_classifier(
    folder: Path,
    name: str,
    files: CrossEncoderSettings,
    trust_remote_code: bool,
    dropout: float | None,
    seed: int | None = None,
    precision: Precision = "fp32",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a classifier with one or two outputs. With a seed, its head of one output is drawn."""
    from transformers import AutoModelForSequenceClassification

    has_head = seed is None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        model, tokenizer, loading = load_weights(
            folder,
            lambda config, folder: AutoModelForSequenceClassification,
            trust_remote_code,
            dropout,
            precision,
            **({} if has_head and added_lora(folder) is None else {"num_labels": 1}),
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
    return model, tokenizer


def _made_of(
    model: PreTrainedModel | PooledRanker,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    form: Form,
    scoring: Scoring | None,
) -> CrossEncoder:
    """Build a cross-encoder with the lengths and prompts in its files, and report problems in the files."""
    files = form.files
    ours: dict[str, Any] = own_settings(folder)
    ours = ours if ours.get("kind") == KIND else {}
    check_keys(ours, "a ranker's drtools.json", folder / OURS, files.notes)
    limits = (form.longest or tokenizer.model_max_length, positions_of(model))
    known = [length for length in limits if length and length < 1e7]
    longest = ours.get("longest_pair", min(known, default=LONGEST_BY_DEFAULT))
    template = template_for(form, tokenizer, folder)
    if template is None and ours.get("segments"):
        template = TextTemplate(ours["segments"], tokenizer)
    encoder = CrossEncoder(model, tokenizer, folder, longest, template, scoring)
    if template is None:
        encoder.prompt = files.prompt if form.reading.instruction is None else form.reading.instruction
    encoder.lower_case = files.lower_case
    encoder.set_lengths(ours.get("max_query_tokens"), ours.get("max_document_tokens"))
    for note in files.notes:
        reporting.notice(1, note)
    unused = form.kind == "classifier" and template is None and not (folder / "modules.json").exists()
    reporting.notice(
        unused and kind_of(folder) == "classifier" and tokenizer.chat_template is not None,
        f"{folder}: its tokenizer has a chat template, which is not used: a pair is joined only by the special tokens "
        "of the tokenizer",
    )
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


def _check_config(folder: Path, name: str) -> None:
    """Raise InputError for a folder without a model."""
    if not (folder / "config.json").exists():
        raise InputError(
            "no config.json was found",
            where=name,
            expected="a Hugging Face model or a cross-encoder of sentence-transformers",
        )


def _check(folder: Path, name: str) -> Kind:
    """Return the kind of a finished cross-encoder. Raises InputError for any other model."""
    _check_config(folder, name)
    kind = kind_of(folder)
    if kind is None:
        architectures = body_config(folder).get("architectures") or []
        raise InputError(
            f"found {', '.join(architectures) or 'a body'}",
            where=name,
            expected="a cross-encoder (a sequence classifier)",
            remedy="make one with `drtools train-ranker`",
        )
    return kind


def _check_is_ranker(form: Form, folder: Path, name: str) -> None:
    """Raise InputError for a language model that neither its files, nor its name, nor the user makes a ranker."""
    if form.family or has_ranker_files(folder) or form.reading.score_tokens:
        return
    architectures = body_config(folder).get("architectures") or []
    raise InputError(
        f"found {', '.join(architectures)}, a language model whose files do not say how it scores pairs",
        where=name,
        expected="a cross-encoder of sentence-transformers, or the name of a known family",
        remedy=f"use {param('pair_template')} and {param('score_tokens')}, or make a cross-encoder with "
        "`drtools train-ranker`",
    )


def save_cross_encoder(encoder: CrossEncoder, folder: Path) -> str:
    """Write a folder that transformers, sentence-transformers' CrossEncoder and drtools load with the same logits.

    A template of text is written for drtools alone. Returns its fingerprint. Raises InputError for a language model
    whose score is read from tokens or from a layer, which has lost its other outputs.
    """
    if encoder.scoring or isinstance(encoder.model, PooledRanker):
        raise InputError("it scores pairs by tokens or a pooling, and can only be used as it is", where=encoder.folder)
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
    segments = list(encoder.template.segments) if isinstance(encoder.template, TextTemplate) else None
    write_json(folder / OURS, {"kind": KIND, **lengths, **({"segments": segments} if segments else {})})
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
