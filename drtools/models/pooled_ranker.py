"""A cross-encoder of a body, a pooling and a head, as sentence-transformers' CrossEncoder makes them of modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from drtools.models.bodies import LEAKS, padding_leaks
from drtools.models.encoder_files import load_body
from drtools.models.heads import apply_head, make_head
from drtools.models.pooling import pool
from drtools.models.settings import EncoderSettings
from drtools.models.specs import Precision
from drtools.models.tokenizers import fit_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from drtools.models.ranker_files import CrossEncoderSettings


class Scores(NamedTuple):
    """What a classifier returns, under transformers' name."""

    logits: Tensor


class PooledRanker(nn.Module):
    """Computes logits from the pooled states of a body, in the form of a classifier.

    Its `description` is what its fingerprint needs besides the weights.
    """

    def __init__(self, body: PreTrainedModel, settings: EncoderSettings, head: nn.Sequential) -> None:
        super().__init__()
        self.base_model, self.head, self.pooling = body, head, settings.pooling
        self.description = [list(settings.pooling), settings.head]
        setattr(self, LEAKS, padding_leaks(body))

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the body."""
        return self.base_model.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Tensor) -> Scores:
        """Return the logits of pairs, [B, 1] or [B, 2]."""
        states = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        with torch.autocast(states.device.type, enabled=False):
            return Scores(apply_head(self.head, pool(states, mask, self.pooling)))


def load_pooled(
    folder: Path,
    files: CrossEncoderSettings,
    trust_remote_code: bool = False,
    dropout: float | None = None,
    precision: Precision = "fp32",
) -> tuple[PooledRanker, PreTrainedTokenizerBase]:
    """Load the body of a cross-encoder in `precision`, and the layers above it in float32."""
    layers = files.layers
    assert layers is not None, "its modules have a pooling"
    body, tokenizer = load_body(folder, trust_remote_code, dropout, precision)
    fit_tokenizer(tokenizer, folder, lower_case=files.lower_case)
    settings = EncoderSettings(layers.pooling, layers.head)
    return PooledRanker(body, settings, make_head(settings, folder)), tokenizer
