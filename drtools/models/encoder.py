"""A dense encoder: a Hugging Face body, pooling and a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from drtools.models.bodies import token_states
from drtools.models.heads import apply_head
from drtools.models.pooling import pool
from drtools.models.settings import (
    SIDES,
    EncoderSettings,
    RemSettings,
    fingerprints,
    head_dimension,
)
from drtools.models.tokens import Tokens, prepare, tokenize_prepared, tokenize_texts
from drtools.outputs.fingerprints import digest, in_int8

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from drtools.models.module_keys import HeadLayer


class Encoder(nn.Module):
    """Turns token ids into vectors.

    `folder` is the origin of its weights. `rem` has the sizes of the relevance module in the body.
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
        self.int8 = False  # its linear layers compute in int8
        self.whole_head: list[HeadLayer] | None = None  # before `truncation.truncate` cut the vectors

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return head_dimension(self.settings, self.body.config.hidden_size)

    def of(self, side: str) -> Encoder:
        """Return self, the encoder of both sides."""
        return self

    @property
    def truncated(self) -> int | None:
        """The dimension to which vectors are cut beyond what the files of the encoder say, or None."""
        return None if self.whole_head is None else self.dimension

    def side_fingerprints(self, query_prompt: str | None = None) -> dict[str, str]:
        """Return the fingerprint of each side, as if it had another query prompt if one is given.

        It covers the weights (also of a REM) as they were loaded, the current settings, and whether it is in int8. The
        fingerprint of cut vectors follows from that of whole ones, also for a side that is known only by its
        fingerprint.
        """
        assert self.folder is not None, "weights that were never saved have no fingerprint"
        settings = self.settings if self.whole_head is None else replace(self.settings, head=self.whole_head)
        settings = settings if query_prompt is None else replace(settings, query_prompt=query_prompt)
        found = fingerprints(self.folder, settings)
        if self.rem_fingerprint:
            found |= {
                side: digest([found[side], self.rem_fingerprint])
                for side in SIDES
                if side not in self.settings.inherited
            }
        if self.truncated:
            found = {side: digest([value, "first dimensions", self.truncated]) for side, value in found.items()}
        return {side: in_int8(value) for side, value in found.items()} if self.int8 else found

    def prepare(self, text: str) -> str:
        """Return a text in the form that the tokenizer gets."""
        return prepare(text, self.tokenizer, self.settings)

    def tokenize(self, texts: Sequence[str], side: str) -> Tokens:
        """Tokenize texts of a side (`query` or `document`) with its prompt, cut at its length."""
        return tokenize_texts(self.tokenizer, self.settings, texts, side)

    def tokenize_prepared(self, texts: Sequence[str], side: str, longest: int) -> Tokens:
        """Tokenize prepared texts of a side with its prompt, cut at `longest` tokens including special tokens."""
        return tokenize_prepared(self.tokenizer, self.settings, texts, side, longest)

    def forward(self, token_ids: Tensor, mask: Tensor, prompt_tokens: int = 0) -> Tensor:  # [B, T], [B, T] -> [B, D]
        """Return float32 vectors. The first `prompt_tokens` tokens of a text are read but not pooled."""
        states = token_states(self.body, token_ids, mask)
        if prompt_tokens:
            mask = mask.clone()
            mask[:, :prompt_tokens] = 0
        with torch.autocast(states.device.type, enabled=False):
            return apply_head(self.head, pool(states, mask, self.settings.pooling))
