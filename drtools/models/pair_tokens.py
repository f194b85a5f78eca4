"""Tokenize pairs of a query and a document for a cross-encoder.

Both texts are in one list of token ids. Truncated texts are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.models.text_template import TextTemplate
from drtools.models.tokens import Rows, pad, padding_of, token_lists

if TYPE_CHECKING:
    from drtools.models.cross_encoder_model import CrossEncoder
    from drtools.models.pair_template import Template


DOCUMENT_CUT, QUERY_CUT, EMPTY = 1, 2, 4  # flags of a pair; the cache of scores stores their sum


class PairTokens(NamedTuple):
    """Token ids of N pairs: `flat` int32 [total], pair i is flat[starts[i]:starts[i + 1]].

    `types` int8 [total], None for a body without them.

    `odd` uint8 [N] has the flags of each pair: a sum of DOCUMENT_CUT, QUERY_CUT and EMPTY.
    """

    flat: np.ndarray
    starts: np.ndarray
    types: np.ndarray | None
    odd: np.ndarray
    padding: int

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair [N]."""
        return np.diff(self.starts)

    @property
    def backward(self) -> bool:
        """Whether a training step backpropagates through the body for them."""
        return True

    @property
    def truncated(self) -> int:
        """The number of pairs with a truncated document."""
        return int(((self.odd & DOCUMENT_CUT) > 0).sum())

    @property
    def truncated_queries(self) -> int:
        """The number of pairs with a truncated query."""
        return int(((self.odd & QUERY_CUT) > 0).sum())

    @property
    def empty(self) -> int:
        """The number of pairs with an empty query or document."""
        return int(((self.odd & EMPTY) > 0).sum())

    def inputs(self, rows: Rows) -> tuple[np.ndarray, ...]:
        """Return token ids, mask and, if the body has them, token types of some pairs, each int64 [B, T]."""
        ids = pad(self.flat, self.starts, rows, self.padding)
        mask = (np.arange(ids.shape[1]) < self.lengths[rows][:, None]).astype(np.int64)
        return (ids, mask) if self.types is None else (ids, mask, pad(self.types, self.starts, rows, 0))


def tokenize_pairs(
    encoder: CrossEncoder, pairs: Sequence[tuple[str, str]], limits: Sequence[int | None] | None = None
) -> PairTokens:
    """Tokenize (query text, document text) with the tokenizer's template for pairs.

    The query is cut at its maximum length, the document at its own and at the rest of the pair. `limits` sets another
    maximum for the documents of some pairs (None for the others). Special tokens that are written in a text become
    those tokens.
    """
    template = encoder.template
    if isinstance(template, TextTemplate):
        return _tokenize_in(template, encoder, pairs, limits or [None] * len(pairs))
    asked = [query.strip() for query, _ in pairs]
    queries, query_tokens = _each_once(encoder, [encoder.prompt + query for query in asked], encoder.longest_pair)
    documents, document_tokens = _each_once(encoder, [document for _, document in pairs], encoder.longest_pair)
    from_left = encoder.tokenizer.truncation_side == "left"

    def kept(tokens: list[int], count: int) -> list[int]:
        return tokens[max(0, len(tokens) - count) :] if from_left else tokens[:count]

    lists, lengths, odd = [], np.ones((len(pairs), 2), np.int64), np.zeros(len(pairs), np.uint8)
    for row, (query_at, document_at) in enumerate(zip(queries, documents, strict=True)):
        query, document = query_tokens[query_at], document_tokens[document_at]
        blank = not query or (bool(encoder.prompt) and not asked[row])
        limit = limits[row] if limits is not None and limits[row] is not None else encoder.max_document_tokens
        first = kept(query, encoder.max_query_tokens)
        room = encoder.longest_pair - template.special - len(first)
        second = kept(document, room if limit is None else min(room, limit))
        odd[row] = (
            DOCUMENT_CUT * (len(second) < len(document))
            + QUERY_CUT * (len(first) < len(query))
            + EMPTY * (blank or not document)
        )
        lists.append([*template.before, *first, *template.between, *second, *template.after])
        lengths[row] = len(first), len(second)
    types = _types(template, lengths) if encoder.typed else None
    return PairTokens(*_flat(lists), types, odd, padding_of(encoder.tokenizer))


def _tokenize_in(
    template: TextTemplate, encoder: CrossEncoder, pairs: Sequence[tuple[str, str]], limits: Sequence[int | None]
) -> PairTokens:
    """Tokenize pairs in a template of text, whose own tokens are all kept."""
    from_left = encoder.tokenizer.truncation_side == "left"
    texts = [(query.strip(), document.strip()) for query, document in pairs]
    filled = template.fill(texts)
    odd = np.zeros(len(pairs), np.uint8)
    longest = encoder.max_query_tokens
    cut = [row for row, each in enumerate(filled) if each.query[1] - each.query[0] > longest]
    for row in cut:
        query, ends = texts[row][0], filled[row].query_ends
        part = query[ends[-longest][0] :] if from_left else query[: ends[longest - 1][1]]
        filled[row] = template.fill([(part, texts[row][1])])[0]
        odd[row] = QUERY_CUT
    lists = []
    for row, (each, limit) in enumerate(zip(filled, limits, strict=True)):
        limit = encoder.max_document_tokens if limit is None else limit
        ids, is_cut = template.cut_document(each, limit, encoder.longest_pair, from_left)
        odd[row] += DOCUMENT_CUT * is_cut + EMPTY * (not all(texts[row]))
        lists.append(ids)
    return PairTokens(*_flat(lists), None, odd, padding_of(encoder.tokenizer))


def _flat(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:  # -> int32 [total], int64 [N + 1]
    """Return lists of tokens in one array, and the start of each."""
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(ids) for ids in lists], out=starts[1:])
    return np.fromiter((token for ids in lists for token in ids), np.int32, int(starts[-1])), starts


def _types(
    template: Template, lengths: np.ndarray
) -> np.ndarray:  # [N, 2] tokens of query and document -> int8 [total]
    """Return the concatenated token types of pairs."""
    before, of_first, between, of_second, after = template.types
    kinds = np.array([*before, of_first, *between, of_second, *after], np.int8)
    times = np.ones((len(lengths), len(kinds)), np.int64)  # special tokens are not repeated
    times[:, [len(before), len(before) + 1 + len(between)]] = lengths
    return np.repeat(np.tile(kinds, len(lengths)), times.ravel())


def _each_once(encoder: CrossEncoder, texts: Sequence[str], longest: int) -> tuple[list[int], list[list[int]]]:
    """Return the index of each text among the distinct texts, and the tokens of the distinct texts."""
    places: dict[str, int] = {}
    at = [places.setdefault(text.strip(), len(places)) for text in texts]
    return at, token_lists(encoder.tokenizer, list(places), longest, special=False)[0]
