"""Documents -> their vectors and those of their pieces, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drtools.batches.pieces import PieceTokens, layout_of, tokenize_pieces
from drtools.formats.piece_vectors import PieceWriter
from drtools.models.spans import Spans
from drtools.retrieval.encoding import Computing, encode_tokens

if TYPE_CHECKING:
    from drtools.flags import PieceFlags
    from drtools.models.encoder import Encoder
    from drtools.models.spans import SpanKind


class PieceEncoding:
    """An encoder of documents and their pieces, and the file that takes the latter. `state` is what a later process continues from."""

    def __init__(self, encoder: Encoder, sizes: PieceFlags, kind: SpanKind, folder: Path, count: int, dtype: str, state: dict) -> None:
        self.encoder, self.layout, self.dtype = encoder, layout_of(encoder, sizes), dtype
        self.spans = Spans(encoder, self.layout.passages, self.layout.sentences, kind)
        self.writer = PieceWriter(folder, count, encoder.dimension, dtype, state.get("done", 0), state.get("pieces", 0))

    def tokenize(self, texts: Sequence[str]) -> PieceTokens:
        """Tokenize and cut documents."""
        return tokenize_pieces(self.encoder, texts, self.layout)

    def encode(self, tokens: PieceTokens, computing: Computing, into: np.ndarray, on_batch: Callable[[int, int], None]) -> None:
        """Encode documents into rows of `into` [N, D] and append their pieces to the file."""
        rows = np.empty((len(tokens.lengths), self.spans.dimension), self.dtype)
        encode_tokens(self.spans, tokens, computing, rows, on_batch)
        vectors = rows.reshape(len(rows), self.layout.places, -1)
        into[:] = vectors[:, 0]
        passages, sentences = tokens.counts()
        places = np.arange(self.layout.places - 1)
        there = np.where(places < self.layout.passages, places < passages[:, None], places - self.layout.passages < sentences[:, None])
        self.writer.add(vectors[:, 1:][there], passages, sentences)
