"""Language models that score pairs: by the logits of tokens after the pair, or by a head above one of their layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import nn

from drtools.errors import InputError, param
from drtools.models.bodies import check_body
from drtools.models.cross_encoder_model import Scoring
from drtools.models.json_files import body_config
from drtools.models.loading import load_weights, refuse_missing
from drtools.models.lora_files import added_lora
from drtools.models.minicpm import LAYERWISE, layerwise_class
from drtools.models.ranker_families import Family, family_of, named_family, names_of, of_text, segments_of
from drtools.models.ranker_files import is_pooled
from drtools.models.text_template import TextTemplate, chat_segments
from drtools.models.tokenizers import fit_tokenizer
from drtools.models.unused import check_unused

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

    from drtools.models.ranker_files import CrossEncoderSettings
    from drtools.models.specs import Precision, ReadingSpec

Kind = Literal["classifier", "pooled", "causal", "seq2seq", "layerwise"]
YES_NO = ("yes", "no")  # of sentence-transformers, for a causal language model whose files name no tokens


class Form(NamedTuple):
    """How a cross-encoder reads pairs: its kind, its `family`, and the settings that its files and its user give."""

    kind: Kind
    family: Family | None
    files: CrossEncoderSettings
    reading: ReadingSpec

    @property
    def longest(self) -> int | None:
        """The maximum number of tokens of a pair, if its files or its family say it."""
        return self.files.longest or (self.family.longest if self.family and not self.files.score_tokens else None)


def kind_of(folder: Path) -> Kind | None:
    """Return the kind of a cross-encoder by the classes in its config.json, or None for a model that is none."""
    if (added_lora(folder) or {}).get("task_type") == "SEQ_CLS":
        return "classifier"
    if is_pooled(folder):
        return "pooled"
    architectures = body_config(folder).get("architectures") or []
    endings: tuple[tuple[str, Kind], ...] = (
        ("ForSequenceClassification", "classifier"),
        (LAYERWISE, "layerwise"),
        ("ForCausalLM", "causal"),
        ("T5ForConditionalGeneration", "seq2seq"),
    )
    return next((kind for ending, kind in endings if any(each.endswith(ending) for each in architectures)), None)


def form_of(kind: Kind, folder: Path, name: str, files: CrossEncoderSettings, reading: ReadingSpec) -> Form:
    """Return how a cross-encoder reads pairs.

    A pair template that the user gives comes first, then what the files say, then the family by the model's name.
    """
    if reading.score_layer is not None and kind != "layerwise":
        raise InputError(f"{name} has no heads above its layers", where=param("score_layer"), remedy="leave it out")
    if reading.score_tokens is not None and kind not in ("causal", "seq2seq"):
        raise InputError(f"{name} has a head of its own for scores", where=param("score_tokens"), remedy="leave it out")
    if reading.pair_template is not None:
        return Form(kind, named_family(reading.pair_template) or of_text(reading.pair_template), files, reading)
    if files.chat is not None or files.score_tokens:
        return Form(kind, None, files, reading)
    architectures = body_config(folder).get("architectures") or []
    return Form(kind, family_of(names_of(name), architectures), files, reading)


def template_for(form: Form, tokenizer: PreTrainedTokenizerBase, folder: Path) -> TextTemplate | None:
    """Return the template of text of a cross-encoder, or None if the tokenizer joins pairs."""
    files, reading = form.files, form.reading
    if not tokenizer.is_fast and (form.family or files.chat):
        raise InputError("its tokenizer cannot tell which tokens a text has", where=folder, expected="a fast tokenizer")
    if form.family is not None:
        bos = tokenizer.bos_token if tokenizer.bos_token_id != tokenizer.pad_token_id else None
        segments = segments_of(form.family, reading.instruction, bos)
        return TextTemplate(segments, tokenizer, form.family.special)
    if files.chat is None and (form.kind != "causal" or files.score_tokens or tokenizer.chat_template is None):
        return None
    form_of_messages, arguments = files.chat or (None, {})
    prompt = files.prompt if reading.instruction is None else reading.instruction
    return TextTemplate(chat_segments(tokenizer, form_of_messages, prompt, arguments, folder), tokenizer)


def load_generative(
    form: Form, folder: Path, trust_remote_code: bool, dropout: float | None, precision: Precision = "fp32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Scoring]:
    """Load a language model with outputs for the tokens of its score alone, or up to the layer of its score."""
    model, tokenizer, loading = load_weights(folder, CLASSES[form.kind], trust_remote_code, dropout, precision)
    refuse_missing(loading.missing, model, folder)
    check_unused(loading.unexpected, folder, model.config.model_type, architectures=loading.architectures)
    fit_tokenizer(tokenizer, folder, lower_case=form.files.lower_case)
    check_body(model, tokenizer, folder)
    if form.kind == "layerwise":
        return model, tokenizer, Scoring(layer=keep_layers(model, form.reading.score_layer))
    tokens = score_tokens(form, tokenizer, folder)[::-1]  # as in a classifier, the second means relevant
    keep_outputs(model, tokens)
    start = model.config.decoder_start_token_id if form.kind == "seq2seq" else None
    return model, tokenizer, Scoring(tokens, start=start)


def score_tokens(form: Form, tokenizer: PreTrainedTokenizerBase, folder: Path) -> tuple[int, ...]:
    """Return the ids of the relevant and the irrelevant token, or only of the first."""
    words: tuple[str, ...]
    if form.reading.score_tokens is not None:
        words, where = tuple(form.reading.score_tokens.split(",")), f"{param('score_tokens')} "
        if len(words) > 2 or not all(words):
            raise InputError(
                where=f"{where}{form.reading.score_tokens}", expected="a token, or two that are separated by a comma"
            )
    elif form.files.score_tokens:
        return form.files.score_tokens
    else:
        words, where = form.family.tokens if form.family and form.family.tokens else YES_NO, f"{folder}: "
    vocabulary = tokenizer.get_vocab()
    found: list[int] = []
    for word in words:
        ids = [vocabulary[word]] if word in vocabulary else tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise InputError(
                f"the tokenizer has no token {word!r}; it reads {tokenizer.convert_ids_to_tokens(ids)}",
                where=f"{where}{','.join(words)}",
                remedy=f"use {param('score_tokens')} with tokens of its vocabulary",
            )
        found += ids
    return tuple(found)


def keep_outputs(model: PreTrainedModel, tokens: tuple[int, ...]) -> None:
    """Keep the outputs of a language model for some tokens alone, in float32."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear), "a language model has a linear layer for its outputs"
    rows = nn.Linear(head.in_features, len(tokens), bias=head.bias is not None)
    rows.weight = nn.Parameter(head.weight.detach()[list(tokens)].float())
    if head.bias is not None:
        rows.bias = nn.Parameter(head.bias.detach()[list(tokens)].float())
    model.set_output_embeddings(rows)


def keep_layers(model: Any, layer: int | None) -> int:
    """Keep the layers of a model up to one of those with a head, and its head; return its number."""
    config = model.config
    first, layers = config.start_layer, len(model.model.layers)
    chosen = layers if layer is None else layer
    if not first <= chosen <= layers:
        raise InputError(f"it has heads above the layers {first} to {layers}", where=f"{param('score_layer')} {chosen}")
    model.model.layers = model.model.layers[:chosen]
    model.lm_head = model.lm_head[chosen - first].linear_head.float()
    return chosen


def _causal(config: PreTrainedConfig, folder: Path) -> type[_BaseAutoModelClass]:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def _seq2seq(config: PreTrainedConfig, folder: Path) -> type[_BaseAutoModelClass]:
    from transformers import AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM


CLASSES: dict[Kind, Any] = {"causal": _causal, "seq2seq": _seq2seq, "layerwise": layerwise_class}
