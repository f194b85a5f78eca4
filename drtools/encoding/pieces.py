"""Encode documents and their pieces in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.encoding.loop import encode_tokens
from drtools.errors import InputError, param
from drtools.formats.piece_vectors import PieceVectors, PieceWriter, starts_of
from drtools.models.compute import Compute
from drtools.models.lexical import LexicalEncoder
from drtools.models.pieces import PieceTokens, layout_of, tokenize_pieces
from drtools.models.spans import Spans
from drtools.models.specs import PieceSizes

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder
    from drtools.models.spans import SpanKind


def span_kind(encoder: Encoder, requested: SpanKind | None) -> SpanKind:
    """Return the kind of spans: the requested one, else the one of the training, else attention.

    Raises InputError for a graph, since graphs are not saved.
    """
    kind: SpanKind = requested or encoder.settings.pieces.get("spans", "attention")
    if kind == "rgat":
        raise InputError(
            (
                f"its pieces were trained with a graph (distill-fgd {param('spans')} rgat), which is not saved with "
                "the encoder, so their vectors cannot be made"
            ),
            where=encoder.folder,
            remedy=(
                f"encode its documents without {param('pieces')}, or use {param('spans')} mean for the "
                "input of the graph"
            ),
        )
    return kind


class PieceEncoding:
    """An encoder of documents and their pieces, and the file of the pieces' vectors (`write_to`)."""

    def __init__(self, encoder: Encoder | LexicalEncoder, sizes: PieceSizes, kind: SpanKind | None, dtype: str) -> None:
        if isinstance(encoder, LexicalEncoder):
            raise InputError(
                f"{encoder.folder} is a lexical encoder, which has no vectors of spans",
                where=param("pieces"),
                remedy="leave it out",
            )
        self.kind = span_kind(encoder, kind)
        self.encoder, self.layout, self.dtype = encoder, layout_of(encoder, sizes), dtype
        self.spans = Spans(encoder, self.layout.passages, self.layout.sentences, self.kind)
        trained = encoder.settings.pieces
        other = [
            f"{name.replace('_', '-')} {value} (trained: {trained[name]})"
            for name, value in self.facts().items()
            if trained.get(name, value) != value
        ]
        reporting.notice(len(other), f"pieces are not encoded as {encoder.folder} was trained: {', '.join(other)}")

    def facts(self) -> dict[str, object]:
        """Return the kind of spans and the sizes."""
        return {"spans": self.kind, **vars(self.layout.sizes)}

    def write_to(self, folder: Path, count: int, done: int = 0, written: int = 0) -> None:
        """Open the file in a vectors folder of `count` documents, of which `done` with `written` pieces are in it."""
        self.writer = PieceWriter(folder, count, self.encoder.dimension, self.dtype, done, written)

    def tokenize(self, texts: Sequence[str]) -> PieceTokens:
        """Tokenize and cut documents."""
        return tokenize_pieces(self.encoder, texts, self.layout)

    def try_out(self, texts: Sequence[str], computing: Compute) -> PieceTokens:
        """Encode documents and their pieces to measure the time. Returns their tokens."""
        tokens = self.tokenize(texts)
        encode_tokens(self.spans, tokens, computing, np.empty((len(texts), self.spans.dimension), self.dtype))
        return tokens

    def encode(
        self, tokens: PieceTokens, computing: Compute, on_batch: Callable[[np.ndarray, int], None]
    ) -> tuple[np.ndarray, PieceVectors]:
        """Encode documents. Returns their vectors [N, D] and the vectors of their pieces."""
        rows = np.empty((len(tokens.lengths), self.spans.dimension), self.dtype)
        encode_tokens(self.spans, tokens, computing, rows, on_batch, one_length=True)
        vectors = rows.reshape(len(rows), self.layout.places, self.encoder.dimension)
        passages, sentences = tokens.counts()
        places = np.arange(self.layout.places - 1)
        there = np.where(
            places < self.layout.passages,
            places < passages[:, None],
            places - self.layout.passages < sentences[:, None],
        )
        return vectors[:, 0], PieceVectors(vectors[:, 1:][there], starts_of(passages, sentences))
