"""A cross-encoder: a model that reads a query and a document together and returns one logit."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from drtools.errors import InputError, param
from drtools.models.bodies import of_one_length, padding_leaks
from drtools.models.pair_template import Template, template_of
from drtools.models.pooled_ranker import PooledRanker
from drtools.models.pooling import last
from drtools.models.settings import weights_fingerprint
from drtools.models.text_template import TextTemplate
from drtools.models.tokenizers import deviations
from drtools.outputs.fingerprints import digest, in_int8

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Scoring(NamedTuple):
    """What the score of a language model is read from, after the last token of a pair.

    `tokens` are the ids of the irrelevant and the relevant token, or only of the latter; none for a head of its own.
    `layer` is the layer of that head. `start` is the token that an encoder-decoder's text starts with.
    """

    tokens: tuple[int, ...] = ()
    layer: int | None = None
    start: int | None = None


class CrossEncoder(nn.Module):
    """Turns token ids of pairs into logits. `model` is the whole classifier, `folder` the origin of its weights.

    A body with a pooling and a head is a classifier too. A language model that is none has a `scoring`, and outputs
    only for its tokens.

    A query is cut at `max_query_tokens` and a document at `max_document_tokens`, both without special tokens. If the
    latter is None, the document gets the rest of `longest_pair`, which is the limit of the body's positions with
    special tokens.
    """

    dimension = 1

    def __init__(
        self,
        model: PreTrainedModel | PooledRanker,
        tokenizer: PreTrainedTokenizerBase,
        folder: Path,
        longest_pair: int,
        template: TextTemplate | None = None,
        scoring: Scoring | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.folder, self.longest_pair = model, tokenizer, folder, longest_pair
        self.template: Template | TextTemplate = template or template_of(tokenizer)
        self.scoring = scoring
        self.max_query_tokens = (longest_pair - self.template.special) // 2  # [ours] so that each text has room
        self.max_document_tokens: int | None = None
        self.int8 = False  # its linear layers compute in int8
        self.prompt = ""  # before each query
        self.lower_case = False
        self.head_is_new = False  # drawn at random, so its scores mean nothing yet
        reader = model.base_model if isinstance(model, PooledRanker) else model
        self.typed = (
            template is None
            and "token_type_ids" in tokenizer.model_input_names
            and "token_type_ids" in inspect.signature(reader.forward).parameters
        )
        for part in self.heads:
            _keep_in_float32(part.float())

    @property
    def heads(self) -> list[nn.Module]:
        """The parts above the body, which compute in float32: a classifier's head, or the outputs for tokens."""
        if self.scoring and not isinstance(self.model, PooledRanker):
            return [self.model.get_output_embeddings()]
        return [part for part in self.model.children() if part is not self.body]

    @property
    def below_heads(self) -> list[nn.Module]:
        """The parts below the heads, whose precision can be chosen."""
        heads = self.heads
        return [part for part in self.model.children() if all(part is not head for head in heads)]

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
        """Return the fingerprint of all that changes the logit of a pair except a floating-point precision.

        It covers the weights as they were loaded, and the current lengths.
        """
        lengths = [self.longest_pair, self.max_query_tokens, self.max_document_tokens]
        odd = deviations(self.folder)
        odd |= {"prompt": self.prompt} if self.prompt else {}
        odd |= {"lower_case": True} if self.lower_case else {}
        odd |= {"template": self.template.as_json()} if isinstance(self.template, TextTemplate) else {}
        odd |= {"scoring": list(self.scoring)} if self.scoring else {}
        odd |= {"layers": self.model.description} if isinstance(self.model, PooledRanker) else {}
        # a model without deviations keeps its fingerprint of 0.1.0
        found = digest([weights_fingerprint(self.folder), *lengths, *([odd] if odd else [])])
        return in_int8(found) if self.int8 else found

    def forward(
        self, token_ids: Tensor, mask: Tensor, types: Tensor | None = None
    ) -> Tensor:  # [B, T] three times -> [B, 1]
        """Return float32 logits. For two outputs, this is the second (positive) minus the first."""

        def logits_of(ids: Tensor, seen: Tensor | None, kinds: Tensor | None) -> Tensor:
            more = {} if kinds is None else {"token_type_ids": kinds}
            start = self.scoring.start if self.scoring else None
            if start is not None:
                more["decoder_input_ids"] = ids.new_full((len(ids), 1), start)
            logits: Tensor = self.model(input_ids=ids, attention_mask=seen, **more).logits
            if self.scoring:  # padding is on the right, where no token before it sees it
                logits = logits[:, -1] if seen is None or start is not None else last(logits, seen)
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


def _keep_in_float32(part: nn.Module) -> None:
    """Compute a part of the head in float32, whatever the input and autocast are.

    In bfloat16, logits near 8 would be 0.06 apart.
    """

    def forward(part: nn.Module, *inputs: object, **named: object) -> object:
        device = next((value.device.type for value in inputs if isinstance(value, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return type(part).forward(  # as it is now: a layer may have become one of blocks
                part,
                *(_as_float32(value) for value in inputs),
                **{name: _as_float32(value) for name, value in named.items()},
            )

    part.forward = MethodType(forward, part)  # in a copy of the part, it is bound to the copy


def _as_float32(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
