"""Vectors folders of random documents and queries, as `encode` writes them, with the odd ids that engines meet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from conftest import flags_for

from drtools.cli.flags.outputs import FolderOutput
from drtools.outputs.opening import open_folder

ODD = ['a"b', "back\\slash", "quote's", "中文文档", "x" * 512, "{id}", "%s", "a'or(id!='"]


def ids_of(count: int) -> list[str]:
    return [*ODD, *(f"d{number}" for number in range(count - len(ODD)))]


def random_vectors(count: int, dimension: int = 16, seed: int = 1) -> np.ndarray:
    array = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def write_vectors(
    folder: Path, ids: list[str], array: np.ndarray, side: str = "document", maker: str = "a", **more: object
) -> Path:
    """Write a vectors folder by an encoder that is called `maker`."""
    with open_folder(flags_for(FolderOutput, folder, side=side, of=str(folder))) as work:
        np.save(work.path / "vectors.npy", array)
        (work.path / "ids.txt").write_text("".join(f"{text_id}\n" for text_id in ids))
        work.finish(
            kind="vectors",
            side=side,
            count=len(ids),
            dimension=array.shape[1],
            dtype=str(array.dtype),
            normalized=True,
            model=f"encoder-{maker}",
            corpus=None,
            title_separator=" ",
            max_tokens=512,
            query_fingerprint=f"q{maker}",
            document_fingerprint=f"d{maker}",
            **more,
        )
    return folder


def write_corpus(path: Path, ids: list[str]) -> Path:
    """Write a corpus with fields: a language, and a year."""
    lines = [
        {
            "_id": text_id,
            "text": f"text {row}",
            "lang": "en" if row % 3 else "de",
            "metadata": {"year": 2000 + row % 20},
        }
        for row, text_id in enumerate(ids)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def exact_top(documents: np.ndarray, queries: np.ndarray, depth: int) -> np.ndarray:
    """Return the rows of the highest inner products by brute force."""
    return np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :depth]


def read_run(path: Path) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for line in path.read_text().splitlines():
        query, _, document, _, score, _ = line.split(" ")
        found.setdefault(query, []).append((document, float(score)))
    return found
