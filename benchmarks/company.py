"""Count the texts whose vectors have other bits when they are encoded alone; `encode --update` promises none.

    python benchmarks/company.py DATA/covid-papers/corpus.jsonl.gz [--texts 30]

all-MiniLM-L6-v2 encodes long texts, short pieces of them, and texts of no and one word, together and alone. This is
done in float32 and bfloat16, with mean and cls pooling, with and without a dense layer, and then for documents with
their passages and sentences.
"""

import argparse
import itertools
import random

import numpy as np
import torch

from drtools.cli.flags.encoder import PieceFlags
from drtools.encoding.loop import encode_tokens
from drtools.encoding.pieces import PieceEncoding
from drtools.formats.corpora import read_corpus
from drtools.models.compute import BATCH_TOKENS, Compute, place
from drtools.models.loader import load_encoder

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
OUT = 256


def texts_of(path: str, count: int) -> list[str]:
    """Return texts of many lengths."""
    generator = random.Random(0)
    long = [document.text for _, document in itertools.islice(read_corpus(path), count)]
    return [
        "",
        "a",
        "a word",
        *long,
        *(" ".join(text.split()[: generator.randint(1, 60)]) for text in long for _ in range(3)),
    ]


def encoder_of(pooling: str, computing: Compute, head: bool = False):
    """Return the model with a pooling and, if requested, a dense layer of random weights."""
    encoder = load_encoder(MODEL, pooling=pooling)
    encoder.settings.max_document_tokens = 512
    if head:
        torch.manual_seed(0)
        encoder.head = torch.nn.Sequential(torch.nn.Linear(encoder.dimension, OUT)).eval()
    place(encoder, computing)
    return encoder


def alone_and_together(encoder, texts: list[str], computing: Compute, dimension: int) -> int:
    """Return the number of texts whose vectors differ."""

    def encoded(some: list[str]) -> np.ndarray:
        made = np.empty((len(some), dimension), np.float32)
        encode_tokens(encoder, encoder.tokenize(some, "document"), computing, made, one_length=True)
        return made

    together = encoded(texts)
    return sum(not np.array_equal(encoded([text])[0], vector) for text, vector in zip(texts, together, strict=True))


def pieces_alone_and_together(encoder, kind: str, texts: list[str], computing: Compute) -> int:
    """Return the number of documents whose vectors, or those of their pieces, differ."""
    pieces = PieceEncoding(encoder, PieceFlags(), kind, "float32")

    def encoded(some: list[str]):
        return pieces.encode(pieces.tokenize(some), computing, lambda rows, tokens: None)

    vectors, parts = encoded(texts)
    differ = 0
    for row, text in enumerate(texts):
        own, own_parts = encoded([text])
        differ += not (
            np.array_equal(own[0], vectors[row]) and np.array_equal(own_parts.array, parts.take(np.array([row])).array)
        )
    return differ


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--texts", type=int, default=30)
    words = parser.parse_args()
    texts = texts_of(words.corpus, words.texts)
    for precision in ("fp32", "bf16"):
        computing = Compute("cpu", precision, BATCH_TOKENS["cpu"])
        for pooling, head in itertools.product(("mean", "cls"), (False, True)):
            encoder = encoder_of(pooling, computing, head)
            differ = alone_and_together(encoder, texts, computing, OUT if head else encoder.dimension)
            print(
                f"{precision}  {pooling}{', dense layer' if head else ''}: {differ} of {len(texts)} texts", flush=True
            )
        for kind in ("attention", "mean"):
            differ = pieces_alone_and_together(encoder_of("cls", computing), kind, texts, computing)
            print(f"{precision}  pieces, spans by {kind}: {differ} of {len(texts)} documents", flush=True)


if __name__ == "__main__":
    main()
