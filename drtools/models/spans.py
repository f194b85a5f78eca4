"""Vectors of a document and of its spans from one forward pass, for FGD (Zhou et al., Eq. 7).

In the last layer, the query of the first token attends only to the tokens of the span. Output projection, residual with
that token, LayerNorm and feed-forward follow as usual. The span of all tokens gives the usual document vector. The
layers before the last are computed once, whatever the number of spans is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor

from drtools.errors import InputError, param
from drtools.models.cpu.rows import LEAST_ROWS
from drtools.models.heads import apply_head
from drtools.models.pooling import pool

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask
    from transformers import BertModel, RobertaModel, XLMRobertaModel
    from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

    from drtools.models.encoder import Encoder

SpanKind = Literal["attention", "mean", "rgat"]
Graph = Callable[[Tensor, Tensor], Tensor]  # [B, K, D] of spans int [B, K, 2] -> [B, K, D]


class Spans:
    """The document side of an encoder with rows [documents, K * D].

    A row has the vectors of the document, P passages and S sentences, K = 1 + P + S, with D numbers each.

    Kinds are `attention` (Eq. 7), `mean` (the mean of the last states in a span), and `rgat` (these means after a graph
    of a document, its passages and its sentences). The vector of the document is always that of the encoder. Numbers of
    missing pieces have no meaning.
    """

    def __init__(
        self, encoder: Encoder, passages: int, sentences: int, kind: SpanKind = "attention", graph: Graph | None = None
    ) -> None:
        """Raise InputError for a body or a pooling without such spans."""
        self.body = body_with_spans(encoder, kind)
        self.encoder, self.passages, self.sentences, self.kind, self.graph = encoder, passages, sentences, kind, graph
        self.tokenizer, self.folder, self.settings = encoder.tokenizer, encoder.folder, encoder.settings

    @property
    def dimension(self) -> int:
        """The length of a row."""
        return (1 + self.passages + self.sentences) * self.encoder.dimension

    def __call__(
        self, token_ids: Tensor, mask: Tensor, spans: Tensor
    ) -> Tensor:  # [B, T], [B, T], int [B, K, 2] -> [B, K * D]
        """Return float32 rows. A span is (first token, token after the last); the first span is the whole text."""
        hidden, seen = states_before_last(self.body, token_ids, mask)
        last = cast("BertLayer", self.body.encoder.layer[-1])  # RoBERTa's layers have the same parts
        states = attended(last, hidden, spans) if self.kind == "attention" else last(hidden, seen)
        with torch.autocast(states.device.type, enabled=False):
            vectors = states.float() if self.kind == "attention" else self._averaged(states.float(), mask, spans)
            return apply_head(self.encoder.head, vectors.flatten(0, 1)).reshape(len(vectors), -1)

    def _averaged(self, states: Tensor, mask: Tensor, spans: Tensor) -> Tensor:  # [B, T, D] -> [B, K, D]
        vectors = averaged(states, spans)
        if self.graph is not None:
            vectors = self.graph(vectors, spans)
        document = pool(states, mask, self.settings.pooling)
        return torch.cat([document.unsqueeze(1), vectors[:, 1:]], dim=1)


def body_with_spans(encoder: Encoder, kind: SpanKind) -> BertModel | RobertaModel | XLMRobertaModel:
    """Return the body of the encoder. Raises InputError if it does not support spans of this kind."""
    from transformers import BertModel, RobertaModel, XLMRobertaModel

    settings = encoder.settings
    if not isinstance(encoder.body, BertModel | RobertaModel | XLMRobertaModel):
        raise InputError(
            f"found a {encoder.body.config.model_type} body",
            where=encoder.folder,
            expected="a BERT or RoBERTa body, which supports spans",
            remedy="start from such a model",
        )
    if kind == "attention" and settings.pooling != ("cls",):
        raise InputError(
            f"its vectors are pooled by {'+'.join(settings.pooling)}",
            where=encoder.folder,
            expected="cls, which spans by attention need",
            remedy=f"use {param('pooling')} cls, or {param('spans')} mean",
        )
    if len(settings.pooling) > 1:
        raise InputError(
            f"its vectors join {' and '.join(settings.pooling)}",
            where=encoder.folder,
            expected="one pooling",
            remedy=f"use {param('pooling')} cls",
        )
    if settings.document_prompt and not settings.include_prompt:
        raise InputError(
            "its document prompt is read but not pooled, which spans do not support",
            where=encoder.folder,
            remedy=f"use {param('document_prompt')} ''",
        )
    return encoder.body


def states_before_last(
    body: BertModel | RobertaModel | XLMRobertaModel, token_ids: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor | BlockMask | None]:  # [B, T] twice -> [B, T, D]
    """Return the input states of the last layer, and the mask in the form for the layers' attention."""
    from transformers.masking_utils import create_bidirectional_mask

    hidden = body.embeddings(input_ids=token_ids)
    # without padding no mask is needed, and attention without one is faster
    plain = None if bool(mask.all()) else mask
    seen = create_bidirectional_mask(body.config, hidden, plain)  # positional, since transformers renamed input_embeds
    for layer in body.encoder.layer[:-1]:
        hidden = layer(hidden, seen)
    return hidden, seen


def inside(spans: Tensor, tokens: int) -> Tensor:  # int [B, K, 2] -> bool [B, K, T]
    """Return which tokens are in which span."""
    at = torch.arange(tokens, device=spans.device)
    return (at >= spans[..., :1]) & (at < spans[..., 1:])


def attended(layer: BertLayer, hidden: Tensor, spans: Tensor) -> Tensor:  # [B, T, D], int [B, K, 2] -> [B, K, D]
    """Return the output of the last layer for the first token if it attends only to each span (Eq. 7).

    The scores of its query are the same for all spans and are computed once. Products have at least `LEAST_ROWS` rows,
    so that the bits of a document do not depend on the batch.
    """
    missing = -(-LEAST_ROWS // spans.shape[1]) - len(spans)
    if missing > 0:  # repeats the last document
        return attended(layer, *(torch.cat([part, part[-1:].expand(missing, -1, -1)]) for part in (hidden, spans)))[
            :-missing
        ]
    attention = cast("BertSelfAttention", layer.attention.self)  # annotated as Module
    heads, size = attention.num_attention_heads, attention.attention_head_size
    first = hidden[:, :1]
    # contiguous, since torch copies the tensors for several texts but not for one, and the last bits differ
    query = (
        attention.query(hidden[:, :LEAST_ROWS].contiguous())[:, :1].unflatten(-1, (heads, size)).transpose(1, 2)
        * attention.scaling
    )
    key, value = (
        projection(hidden).unflatten(-1, (heads, size)).transpose(1, 2).contiguous()
        for projection in (attention.key, attention.value)
    )
    scores = (query @ key.transpose(2, 3)).float()  # [B, H, 1, T]
    # the lowest number instead of -inf: a missing span attends to nothing and would become NaN
    scores = scores.masked_fill(~inside(spans, hidden.shape[1]).unsqueeze(1), torch.finfo(torch.float32).min)
    shares = attention.dropout(scores.softmax(dim=-1)).to(value.dtype)  # [B, H, K, T]
    context = (shares @ value).transpose(1, 2).flatten(2)
    states: Tensor = layer.feed_forward_chunk(layer.attention.output(context, first))
    return states


def averaged(states: Tensor, spans: Tensor) -> Tensor:  # [B, T, D], int [B, K, 2] -> [B, K, D]
    """Return the mean state of each span, 0 for a missing span."""
    within = inside(spans, states.shape[1]).float()
    return (within @ states) / within.sum(dim=-1, keepdim=True).clamp(min=1)
