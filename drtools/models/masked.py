"""A body with a masked-language head: from the checkpoint, from an earlier adaptation, or new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from drtools import reporting
from drtools.errors import InputError
from drtools.losses import token_losses
from drtools.models.bodies import token_states
from drtools.models.heads import DEVIATION
from drtools.models.settings import MASKED_HEAD
from drtools.models.unused import WORDS, check_names, listed
from drtools.models.weights import read_tensors, tensor_names
from drtools.outputs.disk import read_json

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder

IGNORED = -100  # the label of a token that is not predicted
# names in checkpoints: the prefixes of dense and norm, the bias and weight of the decoder, and the configuration's key
# of the activation
Style = tuple[str, str, tuple[str, ...], str, str | None]
STYLES: tuple[Style, ...] = (
    (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        "cls.predictions.decoder.weight",
        "hidden_act",
    ),
    ("lm_head.dense", "lm_head.layer_norm", ("lm_head.bias", "lm_head.decoder.bias"), "lm_head.decoder.weight", None),
    ("vocab_transform", "vocab_layer_norm", ("vocab_projector.bias",), "vocab_projector.weight", "activation"),
    ("head.dense", "head.norm", ("decoder.bias",), "decoder.weight", "classifier_activation"),
)
# written by `save_head`
LEFT_HEAD = {"dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias", "decoder"}


class MaskedHead(nn.Module):
    """Turns states into logits over the vocabulary.

    It has a dense layer, an activation, LayerNorm, and a decoder that is tied to the embeddings or separate
    (`decoder`).
    """

    def __init__(
        self, dense: nn.Linear, activation: str, norm: nn.LayerNorm, bias: Tensor, decoder: Tensor | None = None
    ) -> None:
        from transformers.activations import ACT2FN

        super().__init__()
        self.dense, self.norm, self.activation, self.activate = dense, norm, activation, ACT2FN[activation]
        self.bias = nn.Parameter(bias)
        self.decoder = None if decoder is None else nn.Parameter(decoder)

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:  # [M, D], [V, E] -> [M, V]
        """Return logits of states."""
        return nn.functional.linear(
            self.norm(self.activate(self.dense(states))),
            embeddings if self.decoder is None else self.decoder,
            self.bias,
        )

    @torch.no_grad()
    def begin_with(self, shares: np.ndarray) -> None:  # [V]
        """Initialize the bias of a new head with the logarithm of each token's share of the corpus.

        It would otherwise have to learn the shares.
        """
        self.bias[: len(shares)] = torch.from_numpy(np.log(shares)).to(self.bias)
        self.bias[len(shares) :] = self.bias[: len(shares)].min()  # rows without a token


class MaskedModel(nn.Module):
    """Turns texts with masked tokens into (summed loss, number of masked tokens) for each text.

    The encoder is not part of this module, so its pooling and head do not change.
    """

    dimension = 2

    def __init__(self, encoder: Encoder, head: MaskedHead) -> None:
        super().__init__()
        self.body, self.head, self.tokenizer, self.folder = encoder.body, head, encoder.tokenizer, encoder.folder

    def of(self, side: str) -> MaskedModel:
        """Return self: there is one side, `text`."""
        return self

    def forward(
        self, token_ids: Tensor, mask: Tensor, labels: Tensor, body_learns: bool = True
    ) -> Tensor:  # [B, T] thrice -> [B, 2]
        """Predict the tokens whose `labels` are not IGNORED. Only these are multiplied with the vocabulary matrix."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and body_learns):
            states = token_states(self.body, token_ids, mask)
        return self.predicted(states, labels, body_learns)

    @property
    def heads(self) -> list[MaskedHead]:
        """All heads that are trained."""
        return [self.head]

    def predicted(
        self, states: Tensor, labels: Tensor, body_learns: bool, head: MaskedHead | None = None
    ) -> Tensor:  # [B, T, D], [B, T] -> [B, 2]
        """Return the losses of the predictions of a head, by default the encoder's."""
        embeddings = self.body.get_input_embeddings().get_parameter("weight")
        wanted = labels != IGNORED
        losses = token_losses(
            (head or self.head)(states[wanted], embeddings if body_learns else embeddings.detach()), labels[wanted]
        )
        sums = losses.new_zeros(len(labels)).index_add(0, wanted.nonzero()[:, 0], losses)
        return torch.stack([sums, wanted.sum(dim=1).float()], dim=1)


def load_head(encoder: Encoder) -> MaskedHead | None:
    """Load the masked-language head in an encoder's folder. Returns None if there is none."""
    assert encoder.folder is not None, "the head is in its folder"
    left = encoder.folder / MASKED_HEAD
    if left.is_dir():
        return _left_head(encoder, left)
    files = sorted(encoder.folder.glob("*.safetensors"))
    tensors = _tensors(files)
    for style in STYLES:
        dense, norm, biases, decoder, activation = style
        if f"{dense}.weight" in tensors and f"{norm}.weight" in tensors and any(bias in tensors for bias in biases):
            if encoder.body.config.tie_word_embeddings:
                tensors.pop(decoder, None)
            return _made_of(encoder, tensors, style, getattr(encoder.body.config, activation) if activation else "gelu")
    unknown = sorted(name for name in tensor_names(files) if WORDS.match(name))
    reporting.notice(
        len(unknown),
        f"{encoder.folder}: its head that predicts words ({listed(unknown)}) has an unknown form and "
        "is not used; a new head is drawn at random",
    )
    return None


def _left_head(encoder: Encoder, folder: Path) -> MaskedHead:
    """Load a head that `save_head` wrote."""
    try:
        activation = read_json(folder / "config.json")["activation"]
        tensors = {name: tensor.float() for name, tensor in read_tensors(folder / "model.safetensors").items()}
        check_names(tensors, LEFT_HEAD.__contains__, folder, "a masked-language head")
        return _made_of(encoder, tensors, ("dense", "norm", ("bias",), "decoder", None), activation)
    except (OSError, SafetensorError, KeyError, RuntimeError, StopIteration) as error:
        raise InputError(
            (
                f"the masked-language head could not be loaded ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); the files were damaged, adapt again, or remove the folder for "
                "a new head"
            ),
            where=folder,
        ) from None


def _tensors(files: list[Path]) -> dict[str, Tensor]:
    """Return tensors that may belong to a head, by name. LayerNorm's old names gamma and beta are replaced."""
    prefixes = ("decoder", "cls.predictions.", "lm_head.", "vocab_", "head.")
    found: dict[str, Tensor] = {}
    for file in files:
        found |= {
            name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor.float()
            for name, tensor in read_tensors(file, lambda name: name.startswith(prefixes)).items()
        }
    return found


def _made_of(encoder: Encoder, tensors: dict[str, Tensor], style: Style, activation: str) -> MaskedHead:
    dense_name, norm_name, biases, decoder, _ = style
    bias = next(tensors[name] for name in biases if name in tensors)
    embeddings = encoder.body.get_input_embeddings().get_parameter("weight")
    weight = tensors[f"{dense_name}.weight"]
    if len(bias) != len(embeddings) or (decoder not in tensors and weight.shape[0] != embeddings.shape[1]):
        raise InputError(
            (
                f"its masked-language head has {len(bias)} tokens and {weight.shape[0]} dimensions, its embeddings "
                f"have {len(embeddings)} and {embeddings.shape[1]}; the files do not belong together"
            ),
            where=encoder.folder,
        )
    dense = nn.Linear(weight.shape[1], weight.shape[0], bias=f"{dense_name}.bias" in tensors)
    norm = nn.LayerNorm(weight.shape[0], eps=_epsilon(encoder), bias=f"{norm_name}.bias" in tensors)
    for name, layer in ((dense_name, dense), (norm_name, norm)):
        layer.load_state_dict({key: tensors[f"{name}.{key}"] for key in layer.state_dict()})
    return MaskedHead(dense, activation, norm, bias, tensors.get(decoder))


def _epsilon(encoder: Encoder) -> float:
    config = encoder.body.config.to_dict()
    return next(
        (config[name] for name in ("layer_norm_eps", "norm_eps") if name in config), 1e-12
    )  # 1e-12: for DistilBERT, whose configuration has none


def new_head(encoder: Encoder, seed: int) -> MaskedHead:
    """Make a head for a body that has none, drawn with `seed`.

    It has a dense layer, gelu, LayerNorm, and a decoder that is tied to the embeddings, with a bias.
    """
    count, size = encoder.body.get_input_embeddings().get_parameter("weight").shape
    dense = nn.Linear(encoder.body.config.hidden_size, size)
    with torch.no_grad():
        dense.weight.normal_(0, DEVIATION, generator=torch.Generator().manual_seed(seed))
        dense.bias.zero_()
    return MaskedHead(dense, "gelu", nn.LayerNorm(size, eps=_epsilon(encoder)), torch.zeros(count))


def save_head(head: MaskedHead, folder: Path) -> None:
    """Write the head into the folder of an adapted encoder, for further adaptation."""
    (folder / MASKED_HEAD).mkdir(exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()},
        folder / MASKED_HEAD / "model.safetensors",
    )
    (folder / MASKED_HEAD / "config.json").write_text(
        json.dumps({"activation": head.activation}) + "\n", encoding="utf-8"
    )
