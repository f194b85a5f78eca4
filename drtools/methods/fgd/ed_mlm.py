"""ED-MLM: masked language modelling with a decoder that must lean on the encoder's vector (FGD's pre-training).

The decoder sees a more heavily masked text, and the encoder's first token in place of its own; it serves training
alone.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from drtools.errors import InputError, param
from drtools.models.heads import DEVIATION
from drtools.models.masked import MaskedHead, MaskedModel

if TYPE_CHECKING:
    from transformers import BertModel, RobertaModel, XLMRobertaModel

    from drtools.models.encoder import Encoder


class Decoder(NamedTuple):
    """What the decoder is made of: how many layers, what they start as, and whose masked-language head it has."""

    layers: int
    start: Literal["encoder", "random"] = "encoder"
    head: Literal["shared", "own"] = "shared"


class EnhancedModel(MaskedModel):
    """Texts masked twice -> each text's (summed loss, masked tokens) of the encoder, then of the decoder."""

    dimension = 4
    body: BertModel | RobertaModel | XLMRobertaModel

    def __init__(self, encoder: Encoder, head: MaskedHead, decoder: Decoder, seed: int) -> None:
        """Copy the encoder's last layers into the decoder, or draw them by `seed`; copy the head if it has its own.

        InputError for a body whose layers are not BERT's or RoBERTa's, or that has fewer layers than the decoder.
        """
        from transformers import BertModel, RobertaModel, XLMRobertaModel

        super().__init__(encoder, head)
        if not isinstance(encoder.body, BertModel | RobertaModel | XLMRobertaModel):
            raise InputError(
                f"{encoder.folder}: found a {encoder.body.config.model_type} body, expected the layers of BERT or "
                f"RoBERTa, which the decoder is made of; say {param('objective')} mlm"
            )
        layers = self.body.encoder.layer
        self.decoder_head = copy.deepcopy(head) if decoder.head == "own" else None
        if decoder.start == "random":
            self.decoder = nn.ModuleList(type(layers[0])(self.body.config) for _ in range(decoder.layers))
            self._draw(seed)
            return
        if decoder.layers > len(layers):
            raise InputError(
                f"{param('decoder_layers')} {decoder.layers}: the encoder has {len(layers)} layers to copy; pass "
                f"fewer, or {param('decoder_start')} random"
            )
        # copies that share the body's configuration, which says by what attention is computed
        shared = {id(self.body.config): self.body.config}
        self.decoder = nn.ModuleList(copy.deepcopy(layer, {**shared}) for layer in layers[-decoder.layers :])

    def _draw(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.decoder.modules():
                if isinstance(module, nn.Linear):
                    module.weight.normal_(0, DEVIATION, generator=draw)
                    module.bias.zero_()

    @property
    def heads(self) -> list[MaskedHead]:
        """The encoder's head, and the decoder's if it has its own."""
        return [self.head] if self.decoder_head is None else [self.head, self.decoder_head]

    def forward(  # type: ignore[override]  # a module's forward is called with what its own batches hold
        self,
        token_ids: Tensor,
        mask: Tensor,
        labels: Tensor,
        body_learns: bool,
        decoder_ids: Tensor,
        decoder_labels: Tensor,
    ) -> Tensor:  # [B, T] each -> [B, 4]
        """Predict what is asked of the encoder, and what is asked of the decoder."""
        from transformers.masking_utils import create_bidirectional_mask

        plain = None if bool(mask.all()) else mask
        with torch.set_grad_enabled(torch.is_grad_enabled() and body_learns):
            states = self.body(input_ids=token_ids, attention_mask=plain).last_hidden_state
            embedded = self.body.embeddings(input_ids=decoder_ids)
        hidden = torch.cat([states[:, :1].to(embedded.dtype), embedded[:, 1:]], dim=1)
        seen = create_bidirectional_mask(self.body.config, hidden, plain)  # by position: see spans.py
        for layer in self.decoder:
            hidden = layer(hidden, seen)
        own = self.predicted(states, labels, body_learns)
        return torch.cat([own, self.predicted(hidden, decoder_labels, body_learns, self.decoder_head)], dim=1)
