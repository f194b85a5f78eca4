"""ED-MLM: masked language modelling with a decoder that depends on the encoder's vector (FGD's pre-training).

The decoder sees a more heavily masked text, with the encoder's first token instead of its own. It is used only in
training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from drtools import reporting
from drtools.errors import InputError, param
from drtools.methods.ddr.adaptation import MaskedTraining, masked_loss
from drtools.methods.ddr.masking import MaskedBatch, MaskedTokens, Masker
from drtools.methods.ddr.token_file import KeptTokens
from drtools.methods.fgd.settings import EdMlmSettings
from drtools.models.cpu.dropout import use_own_dropout
from drtools.models.heads import DEVIATION
from drtools.models.masked import MaskedHead, MaskedModel
from drtools.models.tokens import Enriched, Rows
from drtools.units import counted

if TYPE_CHECKING:
    from transformers import BertModel, RobertaModel, XLMRobertaModel

    from drtools.models.encoder import Encoder
    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.outputs.work import Work
    from drtools.training.gradients import Loss, Metrics
    from drtools.training.specs import TrainingSpec


class Decoder(NamedTuple):
    """The decoder: its number of layers, their initialization, and whether it shares the masked-language head."""

    layers: int
    start: Literal["encoder", "random"] = "encoder"
    head: Literal["shared", "own"] = "shared"


class EnhancedModel(MaskedModel):
    """Turns texts that are masked twice into (summed loss, masked tokens) of the encoder, then of the decoder."""

    dimension = 4
    body: BertModel | RobertaModel | XLMRobertaModel

    def __init__(self, encoder: Encoder, head: MaskedHead, decoder: Decoder, seed: int) -> None:
        """Copy the encoder's last layers into the decoder, or draw them with `seed`. Copy the head if it has its own.

        Raises InputError for a body that is not BERT or RoBERTa, or that has fewer layers than the decoder.
        """
        from transformers import BertModel, RobertaModel, XLMRobertaModel

        super().__init__(encoder, head)
        if not isinstance(encoder.body, BertModel | RobertaModel | XLMRobertaModel):
            raise InputError(
                f"found a {encoder.body.config.model_type} body",
                where=encoder.folder,
                expected="BERT or RoBERTa, whose layers the decoder uses",
                remedy=f"use {param('objective')} mlm",
            )
        layers = self.body.encoder.layer
        self.decoder_head = copy.deepcopy(head) if decoder.head == "own" else None
        if decoder.start == "random":
            self.decoder = nn.ModuleList(type(layers[0])(self.body.config) for _ in range(decoder.layers))
            self._draw(seed)
            return
        if decoder.layers > len(layers):
            raise InputError(
                f"the encoder has only {counted(len(layers), 'layer')} to copy",
                where=f"{param('decoder_layers')} {decoder.layers}",
                remedy=f"pass fewer, or {param('decoder_start')} random",
            )
        # copies that share the body's configuration, which sets the implementation of attention
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

    def forward(  # type: ignore[override]  # each module's forward takes the inputs of its own batches
        self,
        token_ids: Tensor,
        mask: Tensor,
        labels: Tensor,
        body_learns: bool,
        decoder_ids: Tensor,
        decoder_labels: Tensor,
    ) -> Tensor:  # [B, T] each -> [B, 4]
        """Predict the masked tokens of the encoder and of the decoder."""
        from transformers.masking_utils import create_bidirectional_mask

        plain = None if bool(mask.all()) else mask
        with torch.set_grad_enabled(torch.is_grad_enabled() and body_learns):
            states = self.body(input_ids=token_ids, attention_mask=plain).last_hidden_state
            embedded = self.body.embeddings(input_ids=decoder_ids)
        hidden = torch.cat([states[:, :1].to(embedded.dtype), embedded[:, 1:]], dim=1)
        seen = create_bidirectional_mask(self.body.config, hidden, plain)  # positional: see spans.py
        for layer in self.decoder:
            hidden = layer(hidden, seen)
        own = self.predicted(states, labels, body_learns)
        return torch.cat([own, self.predicted(hidden, decoder_labels, body_learns, self.decoder_head)], dim=1)


@dataclass(frozen=True)
class TwiceMasked(Enriched[MaskedTokens]):
    """Texts masked twice: for the encoder, and `heavier` for a decoder that gets its vector (ED-MLM)."""

    heavier: MaskedTokens

    @property
    def labels(self) -> np.ndarray:
        """The labels of the encoder."""
        return self.tokens.labels

    @property
    def every(self) -> list[MaskedTokens]:
        """The texts as the encoder and as the decoder see them."""
        return [self.tokens, self.heavier]

    @property
    def body_learns(self) -> bool:
        """Whether the body is trained, not only the head."""
        return self.tokens.body_learns

    def inputs(self, rows: Rows) -> tuple[np.ndarray | bool, ...]:
        """Return the model's inputs for some rows.

        These are the inputs of a MaskedModel, then the decoder's token ids and labels.
        """
        ids, _, labels, _ = self.heavier.inputs(rows)
        return *self.tokens.inputs(rows), ids, labels


class TwiceMasker(Masker):
    """Crops texts, and masks the same crops for an encoder and for its decoder.

    The decoder predicts the encoder's masked tokens and, with the same random numbers, further ones.
    """

    def __init__(
        self,
        encoder: Encoder,
        crop_tokens: int,
        share: float,
        decoder_share: float,
        stride: int = 1,
        whole_words: bool = False,
    ) -> None:
        super().__init__(encoder, crop_tokens, share, stride, whole_words)
        self.decoder_share = decoder_share

    def __call__(
        self,
        texts: Sequence[str] | KeptTokens,
        randoms: Sequence[np.random.Generator],
        body_learns: bool = True,
        windows: Sequence[int] | None = None,
    ) -> TwiceMasked:
        """Crop each text and mask it twice, both times with its own generator."""
        crops, words = self._crops(texts, randoms, windows)
        states = [random.bit_generator.state for random in randoms]
        lighter = self._masked(crops, words, randoms, body_learns, self.share)
        for random, state in zip(randoms, states, strict=True):
            random.bit_generator.state = state
        return TwiceMasked(lighter, self._masked(crops, words, randoms, body_learns, self.decoder_share))


class EnhancedTraining(MaskedTraining):
    """The adaptation of an encoder's body together with a decoder."""

    settings: EdMlmSettings

    def __init__(
        self,
        work: Work,
        settings: EdMlmSettings,
        encoder_flags: EncoderSpec,
        training: TrainingSpec,
        compute: ComputeSpec,
    ) -> None:
        """Join the other processes, load the encoder and its masked-language head, and make the decoder."""
        decoder = Decoder(settings.decoder_layers, settings.decoder_start, settings.decoder_head)
        self.decoder, self.decoder_share = decoder._asdict(), settings.decoder_mask_share
        super().__init__(work, settings, encoder_flags, training, compute)
        if self.parallel:
            assert isinstance(self.model, EnhancedModel), "learner() returns it"
            use_own_dropout(self.model.decoder)

    def learner(self, head: MaskedHead) -> EnhancedModel:
        """Return the encoder with a head and a decoder."""
        pooling = "+".join(self.encoder.settings.pooling)
        reporting.notice(
            pooling != "cls",
            f"{self.encoder_flags.start()} has {pooling} pooling, but ed-mlm trains only the first token; use "
            f"{param('pooling')} cls to make that token the vector",
        )
        settings = self.settings
        decoder = Decoder(settings.decoder_layers, settings.decoder_start, settings.decoder_head)
        return EnhancedModel(self.encoder, head, decoder, self.training.seed)

    def masker_of(self, crop_tokens: int) -> TwiceMasker:
        """Return the masker that crops documents and masks them twice."""
        settings = self.settings
        return TwiceMasker(
            self.encoder,
            crop_tokens,
            settings.mask_share,
            settings.decoder_mask_share,
            settings.stride_tokens,
            settings.mask_unit == "word",
        )

    @property
    def loss(self) -> Loss:
        """The loss of a batch."""
        return enhanced_loss


def enhanced_loss(rows: Tensor, batch: MaskedBatch) -> tuple[Tensor, Metrics]:  # [N, 4] -> []
    """Return the sum of the mean losses of the encoder and of the decoder, each over its own masked tokens."""
    (encoder, _), (decoder, _) = masked_loss(rows[:, :2], batch), masked_loss(rows[:, 2:], batch)
    return encoder + decoder, {"encoder loss": float(encoder.detach()), "decoder loss": float(decoder.detach())}
