"""How far bfloat16 moves vectors from those of float32: the length of the difference, as a share of the vector's.

    python benchmarks/precision.py DATA/nfcorpus DATA/scifact [--texts 120] [--model NAME]

Encodes the first documents of each collection in both precisions.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

from drtools.encoding.loop import encode_tokens
from drtools.formats.corpora import read_corpus
from drtools.models.compute import settle
from drtools.models.encoder import Encoder
from drtools.models.loader import load_for_encoding
from drtools.models.specs import ComputeSpec, EncoderSpec, Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def vectors(model: str, texts: list[str], precision: Precision) -> np.ndarray:  # -> [N, D]
    """Encode documents."""
    computing = settle(ComputeSpec(precision=precision))
    encoder = load_for_encoding(EncoderSpec(model=model), computing)
    assert isinstance(encoder, Encoder)
    found = np.empty((len(texts), encoder.dimension), np.float32)
    encode_tokens(encoder, encoder.tokenize(texts, "document"), computing, found)
    return found


def main() -> None:
    """Print a row for each collection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", type=Path)
    parser.add_argument("--texts", type=int, default=120)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    flags = parser.parse_args()
    print("| collection | documents | difference, mean | largest | mean cosine |\n|---|---|---|---|---|")
    for folder in flags.collections:
        corpus = next(path for path in (folder / "corpus.jsonl.gz", folder / "corpus.jsonl") if path.exists())
        documents = [document for _, document in islice(read_corpus(str(corpus)), flags.texts)]
        texts = [f"{document.title} {document.text}".strip() for document in documents]
        exact, rough = (vectors(flags.model, texts, precision) for precision in PRECISIONS)
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rough, axis=1)
        moved = np.linalg.norm(exact - rough, axis=1) / np.linalg.norm(exact, axis=1)
        cosine = float(((exact * rough).sum(axis=1) / lengths).mean())
        print(f"| {folder.name} | {len(texts)} | {moved.mean():.2%} | {moved.max():.2%} | {cosine:.5f} |", flush=True)


if __name__ == "__main__":
    main()
