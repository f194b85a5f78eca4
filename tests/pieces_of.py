"""Scored pieces for the toy collection, by a teacher that counts a query's words."""

import json
import re
from pathlib import Path

from conftest import write_jsonl

from drtools.cli.flags.encoder import PieceFlags
from drtools.models.loader import load_encoder
from drtools.models.pieces import layout_of, tokenize_pieces

SIZES = PieceFlags(passage_tokens=16, sentence_tokens=8, least_piece_tokens=3)
SIZE_FLAGS = ["--passage-tokens", "16", "--sentence-tokens", "8", "--least-piece-tokens", "3"]


def likeness(query: str, text: str) -> float:
    """Return how many of the query's words a text has."""
    return float(sum(len(re.findall(rf"\b{word}\b", text)) for word in query.split()))


def cls_of(folder: str, target: Path, stronger: float = 1.0) -> str:
    """Write an encoder's body as one that pools the first token, without a head.

    `stronger` weights tell texts apart.
    """
    import torch

    from drtools.models.encoder_files import save_encoder

    encoder = load_encoder(folder, pooling="cls")
    with torch.no_grad():
        for name, parameter in encoder.body.encoder.named_parameters():
            parameter.mul_(stronger if "dense.weight" in name or "self" in name else 1)
    encoder.settings.head.clear()
    encoder.head = encoder.head[:0]
    save_encoder(encoder, target)
    return str(target)


def score_pieces(toy, model: str, path: Path, change=lambda record: None) -> str:
    """Write the toy's examples with scores of documents and pieces; `change` may spoil a record."""
    encoder = load_encoder(model)
    layout = layout_of(encoder, SIZES)
    texts = {document["_id"]: f"{document['title']} {document['text']}" for document in toy.documents}
    queries = {record["_id"]: record["text"] for record in map(json.loads, Path(toy.queries).read_text().splitlines())}
    records = []
    for record in map(json.loads, Path(toy.examples).read_text().splitlines()):
        query, named = queries[record["query_id"]], [*record["positives"], *record["negatives"]]
        tokens = tokenize_pieces(encoder, [texts[name] for name in named], layout)
        pieces = [(name, *span) for at, name in enumerate(named) for span in tokens.pieces(at)]
        record |= {
            "positive_scores": [likeness(query, texts[name]) for name in record["positives"]],
            "negative_scores": [likeness(query, texts[name]) for name in record["negatives"]],
            "pieces": [dict(zip(("id", "start", "end"), piece, strict=True)) for piece in pieces],
            "piece_scores": [likeness(query, texts[name][start:end]) for name, start, end in pieces],
            "scored_by": "counts@1",
        }
        change(record)
        records.append(record)
    return write_jsonl(path, records)
