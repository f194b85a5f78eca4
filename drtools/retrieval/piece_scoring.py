"""The pieces of an example's documents for a teacher to score, each alone: cut by the tokens of the encoder that will learn from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drtools.errors import UserError
from drtools.models.settings import positions

if TYPE_CHECKING:
    from drtools.flags import PieceFlags
    from drtools.formats.examples import Example
    from drtools.retrieval.example_scores import Asked, Texts


class Cutter:
    """Cuts documents as one encoder reads them."""

    def __init__(self, model: str, max_document_tokens: int, sizes: PieceFlags, trust_remote_code: bool) -> None:
        from drtools.batches.pieces import layout_of
        from drtools.models.encoder import load_encoder

        self.encoder = load_encoder(model, "cls", trust_remote_code).of("document")
        longest = positions(self.encoder.body.config.to_dict())
        if longest and max_document_tokens > longest:
            raise UserError(f"--pieces-max-document-tokens {max_document_tokens}: {model} has {longest} positions; say {longest} or less")
        self.encoder.settings.max_document_tokens = max_document_tokens
        self.layout = layout_of(self.encoder, sizes)

    def asked(self, example: Example, texts: Texts) -> list[Asked]:
        """List the pieces of an example's positives, then of its negatives, and note in the example where they stand in their documents."""
        from drtools.batches.pieces import tokenize_pieces
        from drtools.retrieval.example_scores import Asked

        found = {document: texts.document(document) for document in (*example.positives, *example.negatives)}
        known = {document: text for document, text in found.items() if text is not None}
        tokens = tokenize_pieces(self.encoder, list(known.values()), self.layout)
        pieces = [(document, start, end) for at, document in enumerate(known) for start, end in tokens.pieces(at)]
        example.others |= {"pieces": [dict(zip(("id", "start", "end"), piece, strict=True)) for piece in pieces], "piece_scores": []}
        return [Asked("piece_scores", known[document][start:end]) for document, start, end in pieces]
