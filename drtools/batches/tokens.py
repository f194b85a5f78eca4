"""Texts -> token ids: cut where the settings say, every cut counted, held in one flat array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.batches.terms import WeightedTerms, weigh_terms
from drtools.models.lexical import LexicalEncoder

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder


class Tokens(NamedTuple):
    """Token ids of N texts: `flat` int32 [total], text i is flat[starts[i]:starts[i + 1]]."""

    flat: np.ndarray
    starts: np.ndarray
    truncated: int
    empty: int
    prompt_tokens: int  # how many tokens at the start are read but not pooled

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text [N]."""
        return np.diff(self.starts)

    def padded(self, rows: Sequence[int], padding: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (token ids int64 [B, T], mask int64 [B, T]) of some rows, padded to the longest of them."""
        lengths = self.lengths[rows]
        ids = np.full((len(rows), max(1, int(lengths.max()))), padding, np.int64)
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        for at, row in enumerate(rows):
            ids[at, : lengths[at]] = self.flat[self.starts[row] : self.starts[row + 1]]
        return ids, mask.astype(np.int64)

    def inputs(self, rows: Sequence[int], padding: int) -> tuple[np.ndarray | int, ...]:
        """Return what the model of this side takes of some rows: token ids, mask, prompt tokens."""
        return *self.padded(rows, padding), self.prompt_tokens


def tokenize(encoder: Encoder | LexicalEncoder, texts: Sequence[str], side: str) -> Tokens | WeightedTerms:
    """Tokenize texts of a side (`query` or `document`) with its prompt, cut at its length; for a lexical encoder, weigh their terms."""
    if isinstance(encoder, LexicalEncoder):
        return weigh_terms(encoder.of(side), texts)
    settings = encoder.settings
    prompt, longest = settings.prompt(side), settings.max_tokens(side)
    stripped = [text.strip() for text in texts]
    empty = sum(not text for text in stripped)
    if settings.lower_case:
        stripped = [text.lower() for text in stripped]
    lists, truncated = _token_lists(encoder.tokenizer, [prompt + text for text in stripped] if prompt else stripped, longest)
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(ids) for ids in lists], out=starts[1:])
    flat = np.fromiter((token for ids in lists for token in ids), np.int32, int(starts[-1]))
    unpooled = 0
    if prompt and not settings.include_prompt:
        unpooled = len(_token_lists(encoder.tokenizer, [prompt], longest)[0][0]) - 1  # the end token is not the prompt's
    return Tokens(flat, starts, truncated, empty, unpooled)


def _token_lists(tokenizer: object, texts: list[str], longest: int) -> tuple[list[list[int]], int]:
    if not tokenizer.is_fast:
        whole = [tokenizer(text, truncation=False, verbose=False)["input_ids"] for text in texts]
        cut = [ids if len(ids) <= longest else tokenizer(text, truncation=True, max_length=longest)["input_ids"]
               for text, ids in zip(texts, whole, strict=True)]
        return cut, sum(len(ids) > longest for ids in whole)
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(longest)
    encodings = backend.encode_batch_fast(texts)
    return [encoding.ids for encoding in encodings], sum(bool(encoding.overflowing) for encoding in encodings)
