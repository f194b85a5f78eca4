"""Specifications of vectors folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from drtools.formats.dropped import ALLOW_DROPPED
from drtools.models.specs import PieceSizes


@dataclass(frozen=True)
class PiecesSpec:
    """Passages and sentences of documents to encode too. By default, `spans` is that of the encoder's training."""

    sizes: PieceSizes = field(default_factory=PieceSizes)
    spans: Literal["attention", "mean"] | None = None


@dataclass(frozen=True)
class VectorsSpec:
    """How texts are encoded into a folder.

    `chunk` texts are sorted by length and flushed to the disk together. `update` is an earlier folder, whose vectors
    are reused for equal texts. At most a share `allow_dropped` of its ids may be missing now.
    """

    dtype: Literal["float16", "float32"] = "float16"
    batch_tokens: int | None = None
    chunk: int | None = None
    title_separator: str = " "
    update: str | None = None
    pieces: PiecesSpec | None = None
    allow_dropped: float = ALLOW_DROPPED
