"""An encoder that is trained together with the fixed vectors of another encoder.

Scores are s1 + mu * s2, and mu is trained too (SPAR's joint training).

The row of a document is [v1, v2], that of a query [v1, mu * v2], so that the loop, losses and dev evaluation see one
model. The other encoder is not run; its vectors are looked up in folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from drtools.errors import InputError, param
from drtools.formats.joins import Join
from drtools.formats.vectors import (
    belong_together,
    maker_of,
    note_other_precision,
    open_document_vectors,
    open_vectors,
)
from drtools.models.tokens import Tokens
from drtools.training.optimizers import FastScalar

if TYPE_CHECKING:
    from drtools.methods.spar.settings import BesideSpec
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair

# [ours] mu is exp(weight), with MU_RATE times the learning rate: an AdamW step at 2e-5 changes it by .2%; with the
# learning rate of the body, it would hardly change
MU_RATE = 100.0


def open_beside(
    spec: BesideSpec, encoder: Encoder | EncoderPair[Encoder], device: str
) -> tuple[Beside | None, JointModel | None]:
    """Return another encoder's vectors and the joint model, or (None, None) if the spec names no vectors."""
    if spec.beside_documents is None or spec.beside_queries is None:
        return None, None
    beside = Beside(spec.beside_documents, spec.beside_queries)
    return beside, JointModel(encoder, beside.dimension, spec.mu or 1.0).to(device)


class Beside:
    """Vectors of documents and queries from the other encoder, looked up by id."""

    def __init__(self, documents: str, queries: str) -> None:
        self.vectors = {"document": open_document_vectors(documents), "query": open_vectors(queries)}
        theirs, ours = (self.vectors[side].manifest for side in ("query", "document"))
        if theirs["side"] != "query" or not belong_together(theirs, ours):
            raise InputError(
                f"not vectors of queries by the encoder that made {documents} ({maker_of(ours)})",
                where=queries,
                remedy=f"encode {param('queries')} with that encoder",
            )
        note_other_precision(theirs, ours, self.vectors["document"].path)
        self.dimension = ours["dimension"]

    def __call__(self, side: str, ids: list[str]) -> np.ndarray:
        """Return the vectors of texts of a side, float32 [N, D]."""
        vectors = self.vectors[side]
        rows = vectors.ids.rows_of(ids)
        if (rows < 0).any():
            found = Join(vectors.ids, str(vectors.path), ids)
            raise InputError(
                f"there is no vector of {side} {found.first[0]!r}",
                where=vectors.path,
                remedy=f"encode all texts of the training and of dev {found.pair()}",
            )
        return np.asarray(vectors.array[rows], np.float32)


class JointModel(nn.Module):
    """An encoder and mu. Only the encoder is saved."""

    def __init__(self, encoder: Encoder | EncoderPair[Encoder], other_dimension: int, mu: float) -> None:
        super().__init__()
        self.encoder, self.other_dimension, self.start = encoder, other_dimension, mu
        self.logarithm = FastScalar(MU_RATE)

    @property
    def mu(self) -> Tensor:
        """The weight of the other encoder's scores, [1]."""
        return self.start * torch.exp(self.logarithm.value)

    @property
    def dimension(self) -> int:
        """The dimension of a row."""
        return self.encoder.dimension + self.other_dimension

    def of(self, side: str) -> JointSide:
        """Return the model of a side (`query` or `document`)."""
        return JointSide(self, self.encoder.of(side), side)


class JointSide:
    """One side of a JointModel, with the tokenizer and settings of its encoder, and rows from both encoders."""

    def __init__(self, model: JointModel, encoder: Encoder, side: str) -> None:
        self.model, self.encoder, self.side = model, encoder, side
        self.body, self.settings, self.folder = encoder.body, encoder.settings, encoder.folder
        self.dimension = model.dimension

    def tokenize(self, texts: Sequence[str], side: str) -> Tokens:
        """Tokenize texts as the encoder does."""
        return self.encoder.tokenize(texts, side)

    def __call__(
        self, token_ids: Tensor, mask: Tensor, prompt_tokens: int, vectors: Tensor
    ) -> Tensor:  # [B, T], [B, T], [B, D2] -> [B, D1 + D2]
        """Return float32 [v1, v2], for queries [v1, mu * v2]."""
        own = self.encoder(token_ids, mask, prompt_tokens)
        return torch.cat([own, self.model.mu * vectors if self.side == "query" else vectors], dim=1)
