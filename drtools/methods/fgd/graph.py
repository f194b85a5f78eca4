"""A relational graph attention network over a document, its passages and its sentences: a variant of FGD's spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from drtools.models.spans import SpanKind, Spans

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair


RELATIONS = ("contains", "next")
LAYERS = 2  # [ours]
DEVIATION = 0.02  # of new weights, as in BERT and RoBERTa


def edges(spans: Tensor, passages: int) -> Tensor:  # int [B, 1 + P + S, 2] -> bool [B, 2, K, K]
    """Return which nodes are connected by each relation, in both directions.

    `contains` connects a document with its passages, and a passage with the sentences that start in it. `next` connects
    neighbours of a level. A span without tokens has no edge.
    """
    there = spans[..., 1] > spans[..., 0]
    start, end = spans.unbind(-1)
    count = spans.shape[1]
    level = torch.tensor([0] + [1] * passages + [2] * (count - 1 - passages), device=spans.device)
    begins_in = (start.unsqueeze(1) >= start.unsqueeze(2)) & (start.unsqueeze(1) < end.unsqueeze(2))
    contains = begins_in & (level[None, :] == level[:, None] + 1)
    follows = (level[None, :] == level[:, None]) & torch.ones(count, count, dtype=torch.bool, device=spans.device).triu(
        1
    ).tril(1)
    both = torch.stack([contains, follows.expand_as(contains)], dim=1)
    both = both | both.transpose(2, 3)
    return both & (there.unsqueeze(1) & there.unsqueeze(2)).unsqueeze(1)


class Rgat(nn.Module):
    """Layers of relational graph attention.

    A node's new state is its state plus the attention-weighted sum of its neighbours' states, projected by relation.
    """

    weights: nn.Parameter
    to_: nn.Parameter
    from_: nn.Parameter

    def __init__(self, dimension: int, layers: int = LAYERS, seed: int = 42) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        shapes = {
            "weights": (layers, len(RELATIONS), dimension, dimension),
            "to_": (layers, len(RELATIONS), dimension),
            "from_": (layers, len(RELATIONS), dimension),
        }
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=draw) * DEVIATION))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:  # [B, K, D], bool [B, R, K, K] -> [B, K, D]
        """Return the new states of the nodes. A node without an edge keeps its state."""
        for weights, to, from_ in zip(self.weights, self.to_, self.from_, strict=True):
            projected = torch.einsum("bkd,rde->brke", nodes, weights)
            scores = leaky_relu(
                (projected * to[:, None]).sum(-1).unsqueeze(3) + (projected * from_[:, None]).sum(-1).unsqueeze(2), 0.2
            )
            nodes = nodes + torch.einsum("brkj,brje->bke", _softmax_over_all(scores, edges), projected)
        return nodes


def _softmax_over_all(scores: Tensor, edges: Tensor) -> Tensor:  # [B, R, K, K], bool -> [B, R, K, K]
    """Normalize each node's attention over the neighbours of all relations together."""
    masked = scores.masked_fill(~edges, torch.finfo(scores.dtype).min)
    batch, relations, count, _ = scores.shape
    flat = masked.transpose(1, 2).reshape(batch, count, relations * count).softmax(dim=-1)
    return flat.view(batch, count, relations, count).transpose(1, 2) * edges


class SpanStudent(nn.Module):
    """An encoder that is trained with its spans: it encodes queries as usual, and documents as `Spans`."""

    def __init__(
        self, encoder: Encoder | EncoderPair[Encoder], passages: int, sentences: int, kind: SpanKind, seed: int = 42
    ) -> None:
        """Add a trainable graph for `rgat`, drawn with `seed`."""
        super().__init__()
        document = encoder.of("document")
        self.encoder = encoder
        self.graph = (
            Rgat(document.body.config.hidden_size, seed=seed).to(next(document.body.parameters()).device)
            if kind == "rgat"
            else None
        )
        self.sides: dict[str, Encoder | Spans] = {
            "query": encoder.of("query"),
            "document": Spans(document, passages, sentences, kind, self._among_spans(passages)),
        }

    def _among_spans(self, passages: int) -> Callable[[Tensor, Tensor], Tensor] | None:
        graph = self.graph
        return None if graph is None else lambda vectors, spans: graph(vectors, edges(spans, passages))

    def of(self, side: str) -> Encoder | Spans:
        """Return the model of a side (`query` or `document`)."""
        return self.sides[side]
