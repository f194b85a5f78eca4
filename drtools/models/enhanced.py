"""ED-MLM: masked language modelling with a decoder that must lean on the encoder's vector (FGD's pre-training).

The decoder sees a more heavily masked text, and the encoder's first token in place of its own; it serves training
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from drtools.errors import UserError
from drtools.models.heads import DEVIATION
from drtools.models.masked import MaskedHead, MaskedModel

if TYPE_CHECKING:
    from transformers import BertModel, RobertaModel, XLMRobertaModel

    from drtools.models.encoder import Encoder


class EnhancedModel(MaskedModel):
    """Texts masked twice -> each text's (summed loss, masked tokens) of the encoder, then of the decoder.

    Both by one head.
    """

    dimension = 4
    body: BertModel | RobertaModel | XLMRobertaModel

    def __init__(self, encoder: Encoder, head: MaskedHead, layers: int, seed: int) -> None:
        """Draw a decoder of so many layers by `seed`; UserError for a body whose layers are not BERT's or RoBERTa's."""
        from transformers import BertModel, RobertaModel, XLMRobertaModel

        super().__init__(encoder, head)
        if not isinstance(encoder.body, BertModel | RobertaModel | XLMRobertaModel):
            raise UserError(
                f"{encoder.folder}: found a {encoder.body.config.model_type} body, expected the layers of BERT or "
                "RoBERTa, which the decoder is made of; say --objective mlm"
            )
        kind = type(self.body.encoder.layer[0])
        self.decoder = nn.ModuleList(kind(self.body.config) for _ in range(layers))
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.decoder.modules():
                if isinstance(module, nn.Linear):
                    module.weight.normal_(0, DEVIATION, generator=draw)
                    module.bias.zero_()

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
        seen = create_bidirectional_mask(config=self.body.config, inputs_embeds=hidden, attention_mask=plain)
        for layer in self.decoder:
            hidden = layer(hidden, seen)
        return torch.cat(
            [self.predicted(states, labels, body_learns), self.predicted(hidden, decoder_labels, body_learns)], dim=1
        )
