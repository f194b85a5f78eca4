"""A cross-encoder: a sequence classifier that reads a query and a document together and gives one logit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from drtools import manifest
from drtools.errors import UserError
from drtools.models.encoder import as_new, load_weights, write_json
from drtools.models.settings import LONGEST_BY_DEFAULT, OURS, optional_json, positions, weights_fingerprint
from drtools.models.source import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

KIND = "ranker"
PLAIN_MODULES = [""]  # the one module, at this path, of a cross-encoder in sentence-transformers' modules.json


class CrossEncoder(nn.Module):
    """Token ids of pairs -> logits. `model` is the whole classifier, `folder` where its weights were loaded from.

    A pair is cut at `max_pair_tokens` with its special tokens, its query first at `max_query_tokens` and its document at
    `max_document_tokens` (both without special tokens; None: at what the query leaves).
    """

    dimension = 1

    def __init__(self, model: nn.Module, tokenizer: object, folder: Path, max_pair_tokens: int, max_query_tokens: int, max_document_tokens: int | None) -> None:
        super().__init__()
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        self.max_pair_tokens, self.max_query_tokens, self.max_document_tokens = max_pair_tokens, max_query_tokens, max_document_tokens
        for part in model.children():
            if part is not self.body:
                _keep_in_float32(part)

    @property
    def body(self) -> nn.Module:
        """The transformer below the classifier's head."""
        return self.model.base_model

    def of(self, side: str) -> CrossEncoder:
        """Return itself: it has one side, the pair."""
        return self

    def fingerprint(self) -> str:
        """Return the fingerprint of everything that changes a pair's logit but the precision: the weights as loaded, the lengths as they are."""
        return manifest.digest([weights_fingerprint(self.folder), self.max_pair_tokens, self.max_query_tokens, self.max_document_tokens])

    def forward(self, token_ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:  # [B, T] three times -> [B, 1]
        """Return float32 logits; of a classifier with two outputs, the positive's (the second) minus the other's."""
        typed = {} if types is None else {"token_type_ids": types}
        # without padding the mask says nothing, and attention without one is faster
        logits = self.model(input_ids=token_ids, attention_mask=None if bool(mask.all()) else mask, **typed).logits.float()
        return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits


def _keep_in_float32(part: nn.Module) -> None:
    """Compute a part of the head in float32 whatever its input and the autocast: in bfloat16 logits near 8 would be spaced 0.06."""
    plain: Callable = part.forward

    def forward(*inputs: object, **named: object) -> object:
        device = next((value.device.type for value in inputs if isinstance(value, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return plain(*(_as_float32(value) for value in inputs), **{name: _as_float32(value) for name, value in named.items()})

    part.forward = forward


def _as_float32(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
