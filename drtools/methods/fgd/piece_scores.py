"""The pieces of an example's documents for a teacher to score, each alone.

Cut by the tokens of the encoder that will learn from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drtools.errors import InputError, param
from drtools.models.bodies import positions_of
from drtools.models.specs import PieceSizes

if TYPE_CHECKING:
    from drtools.formats.examples import Example
    from drtools.models.encoder import Encoder
    from drtools.teachers.windows import Asked, ScoredTexts

PIECE_KEYS = ("pieces", "piece_scores", "pieces_cut")  # of an example; the last: how the pieces were cut
USUAL_DOCUMENT_TOKENS = 512  # distill-fgd's


def drop_pieces(example: Example, scored_by: str) -> bool:
    """Remove another teacher's scores of an example's pieces, which are not scored now.

    Return whether there was any.
    """
    found = [example.others.pop(key, None) for key in PIECE_KEYS] if example.scored_by != scored_by else []
    return any(found)


class Cutter:
    """Cuts documents as one encoder reads them."""

    def __init__(self, encoder: Encoder, sizes: PieceSizes) -> None:
        from drtools.models.pieces import layout_of

        self.encoder, self.layout = encoder, layout_of(encoder, sizes)
        self.cut: dict[str, object] = {}

    def asked(self, example: Example, texts: ScoredTexts) -> list[Asked]:
        """List the pieces of an example's positives, then of its negatives.

        Records in the example where the pieces are in their documents, and how they were cut.
        """
        from drtools.models.pieces import cut_of, tokenize_pieces
        from drtools.teachers.windows import Asked

        self.cut = self.cut or cut_of(self.encoder, self.layout, texts.title_separator)
        found = {document: texts.document(document) for document in (*example.positives, *example.negatives)}
        known = {document: text for document, text in found.items() if text is not None}
        tokens = tokenize_pieces(self.encoder, list(known.values()), self.layout)
        pieces = [(document, start, end) for at, document in enumerate(known) for start, end in tokens.pieces(at)]
        example.others |= {
            "pieces": [dict(zip(("id", "start", "end"), piece, strict=True)) for piece in pieces],
            "piece_scores": [],
            "pieces_cut": self.cut,
        }
        return [Asked("piece_scores", known[document][start:end]) for document, start, end in pieces]


def load_cutter(
    model: str, max_document_tokens: int | None, sizes: PieceSizes, prompt: str | None, trust_remote_code: bool
) -> Cutter:
    """Load the encoder for which documents are cut; `prompt` replaces its own document prompt."""
    from drtools.models.encoder_files import load_encoder

    encoder = load_encoder(model, "cls", trust_remote_code).of("document")
    longest = positions_of(encoder.body)
    if longest and (max_document_tokens or USUAL_DOCUMENT_TOKENS) > longest:
        raise InputError(
            f"{model} has {longest} positions",
            where=f"{param('pieces_max_document_tokens')} {max_document_tokens or USUAL_DOCUMENT_TOKENS}",
            remedy=f"use {longest} or less",
        )
    encoder.settings.max_document_tokens = max_document_tokens or USUAL_DOCUMENT_TOKENS
    if prompt is not None:
        encoder.settings.document_prompt = prompt
    return Cutter(encoder, sizes)
