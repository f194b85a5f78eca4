"""Cut documents into passages and sentences, measured in the encoder's tokens, with their positions in the text (FGD).

If a document has one piece at both levels, the piece is stored once.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.errors import InputError, param
from drtools.models.long_texts import encode_each
from drtools.models.specs import PieceSizes
from drtools.models.tokens import Enriched, Rows, Tokens, padding_of
from drtools.outputs.fingerprints import digest

if TYPE_CHECKING:
    from drtools.models.protocol import Reader


def cut(count: int, size: int, least: int) -> np.ndarray:  # -> int64 [n, 2]
    """Cut `count` tokens into consecutive spans of `size`. A rest shorter than `least` is added to the span before it.

    There is no span without tokens.
    """
    starts = np.arange(0, count, size)
    if len(starts) > 1 and count - starts[-1] < least:
        starts = starts[:-1]
    return np.stack([starts, np.append(starts[1:], count)], axis=1) if count else np.empty((0, 2), np.int64)


class PieceLayout(NamedTuple):
    """The places in a row for a document and its pieces.

    There are K = 1 + `passages` + `sentences`, enough for the longest document.
    """

    passages: int
    sentences: int
    sizes: PieceSizes

    @property
    def places(self) -> int:
        """K."""
        return 1 + self.passages + self.sentences

    def spans(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the passages and the sentences of `count` tokens, int64 [n, 2] each."""
        passage, sentence, least = _tokens_of(self.sizes)
        return cut(count, passage, least), cut(count, sentence, least)

    def parents(self, passages: int) -> np.ndarray:  # -> int64 [S]
        """Return the passage in which each sentence starts, for a document with this number of passages."""
        passage, sentence, _ = _tokens_of(self.sizes)
        begins = np.arange(self.sentences) * sentence // passage
        return np.minimum(begins, max(0, passages - 1))


def _tokens_of(sizes: PieceSizes) -> tuple[int, int, int]:
    """Return the number of tokens of a passage, of a sentence and of the shortest piece."""
    passage, sentence, least = sizes.passage_tokens, sizes.sentence_tokens, sizes.least_piece_tokens
    assert passage is not None and sentence is not None and least is not None, "sizes are complete"
    return passage, sentence, least


def layout_of(encoder: Reader, sizes: PieceSizes) -> PieceLayout:
    """Return the layout for documents of the encoder's maximum length.

    Sizes that are not given are those of its training.
    """
    sizes = sizes.settled(encoder.settings.pieces)
    passage, sentence, least = _tokens_of(sizes)
    if sentence > passage:
        raise InputError(
            "a sentence is part of a passage",
            where=f"{param('sentence_tokens')} {sentence} with {param('passage_tokens')} {passage}",
            expected="no more",
        )
    if least > sentence:
        raise InputError(
            "no sentence has so many tokens",
            where=f"{param('least_piece_tokens')} {least} with {param('sentence_tokens')} {sentence}",
            expected="no more",
        )
    if not encoder.tokenizer.is_fast:
        raise InputError(
            "its tokenizer does not give the positions of tokens in the text, which pieces need",
            where=encoder.folder,
            expected="a fast tokenizer (tokenizer.json)",
        )
    most = max(0, encoder.settings.max_document_tokens - encoder.tokenizer.num_special_tokens_to_add())
    sizes_of = PieceLayout(0, 0, sizes).spans(most)
    return PieceLayout(len(sizes_of[0]), len(sizes_of[1]), sizes)


def cut_of(encoder: Reader, layout: PieceLayout, title_separator: str) -> dict[str, object]:
    """Return everything except the document that determines where it is cut.

    The tokenizer is given by its fingerprint. Files with pieces store this record.
    """
    parts = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    return {
        "max_document_tokens": encoder.settings.max_document_tokens,
        **vars(layout.sizes),
        "document_prompt": encoder.settings.document_prompt,
        "title_separator": title_separator,
        "tokenizer": digest([parts[name] for name in ("normalizer", "pre_tokenizer", "model")]),
    }


@dataclass(frozen=True)
class PieceTokens(Enriched[Tokens]):
    """Tokens of N documents with their pieces.

    `spans` int32 [N, K, 2] are in tokens. The first is the whole document; (0, 0) means no piece.

    `characters` int32 [N, K, 2] are the same spans in characters of the text.
    """

    spans: np.ndarray
    characters: np.ndarray
    layout: PieceLayout

    def inputs(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the inputs of `Spans` for some rows: token ids, mask, spans."""
        return *self.tokens.padded(rows), self.spans[rows].astype(np.int64)

    def counts(self, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of passages and sentences of documents, [N] each.

        The number of sentences is 0 if the only passage equals the only sentence.
        """
        there = self.spans[rows, 1:, 1] > 0
        passages, sentences = there[:, : self.layout.passages].sum(1), there[:, self.layout.passages :].sum(1)
        return passages, np.where((passages == 1) & (sentences == 1), 0, sentences)

    def pieces(self, at: int) -> list[tuple[int, int]]:
        """Return the pieces of a document as (start, end) in characters: passages, then sentences."""
        passages, sentences = (int(counts[0]) for counts in self.counts(slice(at, at + 1)))
        first = 1 + self.layout.passages
        return [
            (int(start), int(end))
            for start, end in (*self.characters[at, 1 : 1 + passages], *self.characters[at, first : first + sentences])
        ]


def tokenize_pieces(encoder: Reader, texts: Sequence[str], layout: PieceLayout) -> PieceTokens:
    """Tokenize documents as `tokenize` does, and cut their tokens, without special tokens and prompt, into pieces."""
    settings = encoder.settings
    prompt = settings.document_prompt
    stripped = [text.strip() for text in texts]
    given = [prompt + text for text in stripped]
    read = list(encode_each(encoder.tokenizer, given, settings.max_document_tokens, with_offsets=True))
    encodings = [encoding for encoding, _ in read]
    starts = np.zeros(len(encodings) + 1, np.int64)
    np.cumsum([len(encoding.ids) for encoding in encodings], out=starts[1:])
    flat = np.fromiter((token for encoding in encodings for token in encoding.ids), np.int32, int(starts[-1]))
    tokens = Tokens(
        flat,
        starts,
        np.array([is_cut for _, is_cut in read], bool),
        np.array([not text for text in stripped], bool),
        0,
        padding_of(encoder.tokenizer),
    )
    spans = np.zeros((len(encodings), layout.places, 2), np.int32)
    characters = np.zeros_like(spans)
    for at, encoding in enumerate(encodings):
        spans[at, 0] = 0, len(encoding.ids)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2) - len(prompt)
        own = np.flatnonzero((np.array(encoding.special_tokens_mask) == 0) & (offsets[:, 1] > 0))
        for place, pieces in zip((1, 1 + layout.passages), layout.spans(len(own)), strict=True):
            there = slice(place, place + len(pieces))
            spans[at, there, 0] = own[pieces[:, 0]]
            spans[at, there, 1] = own[pieces[:, 1] - 1] + 1
            characters[at, there, 0] = np.maximum(0, offsets[own[pieces[:, 0]], 0])
            characters[at, there, 1] = offsets[own[pieces[:, 1] - 1], 1]
    return PieceTokens(tokens, spans, characters, layout)


def check_of(pieces: Sequence[tuple[int, int]]) -> int:
    """Return a checksum of 31 bits for the pieces of a document."""
    return zlib.crc32(np.asarray(pieces, np.int32).tobytes()) & 0x7FFFFFFF
