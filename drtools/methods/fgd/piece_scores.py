"""The pieces of an example's documents, which a teacher scores one by one.

They are cut with the tokenizer of the encoder that will be trained on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drtools.errors import InputError, param
from drtools.models.encoder_files import load_reader
from drtools.models.pieces import cut_of, layout_of, tokenize_pieces
from drtools.models.sides import read_encoder
from drtools.models.specs import EncoderSpec, PieceSizes
from drtools.teachers.windows import Asked, ScoredTexts

if TYPE_CHECKING:
    from drtools.formats.examples import Example
    from drtools.models.protocol import Reader

PIECE_KEYS = ("pieces", "piece_scores", "pieces_cut")  # keys of an example; the last one records how pieces were cut
USUAL_DOCUMENT_TOKENS = 512  # distill-fgd's


def drop_pieces(example: Example, scored_by: str) -> bool:
    """Remove another teacher's scores of an example's pieces, which are not scored now.

    Returns whether there were any.
    """
    found = [example.others.pop(key, None) for key in PIECE_KEYS] if example.scored_by != scored_by else []
    return any(found)


class Cutter:
    """Cuts documents into pieces for an encoder."""

    def __init__(self, encoder: Reader, sizes: PieceSizes) -> None:
        self.encoder, self.layout = encoder, layout_of(encoder, sizes)
        self.cut: dict[str, object] = {}

    def asked(self, example: Example, texts: ScoredTexts) -> list[Asked]:
        """List the pieces of an example's positives, then of its negatives.

        Records in the example where the pieces are in their documents, and how they were cut.
        """
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
    """Load the reader of the encoder for which documents are cut; `prompt` replaces its own document prompt."""
    files = read_encoder(EncoderSpec(model, pooling="cls", trust_remote_code=trust_remote_code), "document")
    reader = load_reader(files.folders["document"], files.settings["document"], trust_remote_code)
    length = max_document_tokens or USUAL_DOCUMENT_TOKENS
    if reader.positions and length > reader.positions:
        raise InputError(
            f"{model} has {reader.positions} positions",
            where=f"{param('pieces_max_document_tokens')} {length}",
            remedy=f"use {reader.positions} or less",
        )
    reader.settings.max_document_tokens = length
    if prompt is not None:
        reader.settings.document_prompt = prompt
    return Cutter(reader, sizes)
