"""A chunk of texts, encoded by one pure function: on this machine, or on a worker elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from drtools.encoding.loop import encode_tokens
from drtools.models.pieces import PieceTokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from drtools.encoding.pieces import PieceEncoding
    from drtools.formats.piece_vectors import PieceVectors
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.models.lexical import LexicalEncoder
    from drtools.models.tokens import Tokenized


class EncodedTexts(NamedTuple):
    """N encoded texts: tokens [N], whether each was `cut` and is `blank` [N], vectors [N, D], and their pieces."""

    lengths: np.ndarray
    cut: np.ndarray
    blank: np.ndarray
    vectors: np.ndarray
    pieces: PieceVectors | None


class Prepared(NamedTuple):
    """A chunk of N texts before it is encoded, or encoded elsewhere.

    `tokens` are the tokens of the texts at `places`, or what a worker made of these. `rows` [N] has the row of each
    text's vector in the old folder, -1 if there is none. `tried` lists places of texts that the old folder has but that
    are encoded again to compare.
    """

    ids: list[str]
    texts: np.ndarray
    tokens: Tokenized | EncodedTexts
    places: np.ndarray
    rows: np.ndarray
    tried: np.ndarray

    @property
    def new(self) -> np.ndarray:
        """Places of texts that the old folder does not have."""
        return self.places[: len(self.places) - len(self.tried)]


class Workers(Protocol):
    """Workers elsewhere, which encode chunks of texts."""

    def encode(self, chunks: Iterator[list[str]]) -> Iterator[EncodedTexts]:
        """Yield what became of each chunk, in order."""


def encode_chunk(
    encoder: Encoder | LexicalEncoder,
    texts: Sequence[str],
    side: str,
    computing: Compute,
    dtype: str,
    pieces: PieceEncoding | None = None,
) -> EncodedTexts:
    """Encode a chunk of texts. The result depends on nothing else."""
    tokens = pieces.tokenize(texts) if pieces else encoder.tokenize(texts, side)
    vectors, made = encode_tokenized(encoder, tokens, computing, dtype, pieces, lambda rows, count: None)
    return EncodedTexts(tokens.lengths, tokens.cut, tokens.blank, vectors, made)


def encode_tokenized(
    encoder: Encoder | LexicalEncoder,
    tokens: Tokenized,
    computing: Compute,
    dtype: str,
    pieces: PieceEncoding | None,
    told: Callable[[np.ndarray, int], None],
) -> tuple[np.ndarray, PieceVectors | None]:
    """Return the vectors of tokenized texts [N, D], and those of their pieces if requested."""
    if pieces:
        assert isinstance(tokens, PieceTokens), "made by pieces.tokenize"
        return pieces.encode(tokens, computing, told)
    made = np.empty((len(tokens.lengths), encoder.dimension), dtype)
    encode_tokens(encoder, tokens, computing, made, told, one_length=True)
    return made, None
