"""How texts become a vectors folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from drtools.formats.dropped import ALLOW_DROPPED
from drtools.models.specs import PieceSizes


@dataclass(frozen=True)
class PiecesSpec:
    """Documents' passages and sentences, which are encoded too; spans are by default as the encoder was trained."""

    sizes: PieceSizes = field(default_factory=PieceSizes)
    spans: Literal["attention", "mean"] | None = None


@dataclass(frozen=True)
class VectorsSpec:
    """How texts are encoded into a folder.

    `chunk` texts are sorted by length and made durable together. `update` is an earlier folder, whose vectors of the
    same texts are taken over; it may have a share of at most `allow_dropped` of texts whose ids are gone.
    """

    dtype: Literal["float16", "float32"] = "float16"
    batch_tokens: int | None = None
    chunk: int | None = None
    title_separator: str = " "
    update: str | None = None
    pieces: PiecesSpec | None = None
    allow_dropped: float = ALLOW_DROPPED
