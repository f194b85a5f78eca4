"""Properties of a body of any family: its class, its positions, its token states with and without padding.

There is no list of supported families. A body is tested on two short texts when it is loaded. What it does not support
is computed in another way, or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from drtools.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

DPR = "dpr"  # the model type of DPR's two encoders in transformers
DPR_PREFIX = r"^(question|ctx)_encoder\.bert_model\."
POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
# model types whose adapters return bfloat16 under autocast, which is then written into a float32 tensor
WITHOUT_MIXED_PRECISION = ("xmod",)
LEAKS = "_padding_leaks"  # an attribute of models
CLOSE = 1e-4  # relative to the largest number in a text's states; float32 rounding is a hundred times smaller
CLOSE_IN_HALF = 0.05  # the same in bfloat16 and float16


def plain_config(config: PreTrainedConfig, folder: Path) -> tuple[PreTrainedConfig, dict[str, str]]:
    """Return the configuration to load a body with, and a map of expressions to replacements that renames its tensors.

    DPR's encoders are BERT with other names. Raises InputError for a family whose vectors depend on the other texts of
    a batch in a way that cannot be prevented here.
    """
    if config.model_type == "funnel":
        raise InputError(
            (
                "a Funnel body, which shortens texts, so that its states do not belong to tokens, and which keeps the "
                "length of the last batch between calls; such models are not supported"
            ),
            where=folder,
        )
    if config.model_type == "big_bird" and config.attention_type != "original_full":
        raise InputError(
            (
                f"a BigBird body with {config.attention_type} attention, which changes to full attention permanently "
                "after the first short batch"
            ),
            where=folder,
            remedy=(
                'set "attention_type": "original_full" in its config.json, which gives the same vectors for '
                "short texts, and others for long ones"
            ),
        )
    if config.model_type == "nystromformer" and config.num_landmarks != config.segment_means_seq_len:
        raise InputError(
            (
                f"a Nystromformer body with num_landmarks {config.num_landmarks} and segment_means_seq_len "
                f"{config.segment_means_seq_len}, which only reads texts of {config.segment_means_seq_len} tokens; "
                "only bodies with equal values are supported"
            ),
            where=folder,
        )
    if config.model_type != DPR:
        return config, {}
    if config.projection_dim:
        raise InputError(
            f"a DPR encoder with a projection to {config.projection_dim} dimensions",
            where=folder,
            expected="one without, or one that has the projection as its module Dense",
            remedy=f"convert it with `drtools import-model {folder} -o FOLDER`, and pass that folder",
        )
    from transformers import BertConfig

    kept = config.to_dict()
    for name in ("model_type", "projection_dim", "architectures"):
        kept.pop(name, None)
    return BertConfig(**kept), {DPR_PREFIX: ""}


def body_class(config: PreTrainedConfig, folder: Path) -> type[_BaseAutoModelClass]:
    """Return the class to load a body with. For an encoder-decoder, it is the class of its encoder.

    The files of such an encoder may have `is_encoder_decoder: false`, which transformers 5 writes when it saves one.
    """
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        encoder: Any = MODEL_FOR_TEXT_ENCODING_MAPPING[type(config)]
        if getattr(encoder, "__name__", "").endswith("EncoderModel"):
            return AutoModelForTextEncoding
    if config.is_encoder_decoder:
        raise InputError(
            f"an encoder-decoder of type {config.model_type}, whose encoder cannot be loaded alone",
            where=folder,
            expected="an encoder, a decoder, or a T5",
        )
    return AutoModel


def positions_of(body: nn.Module) -> int | None:
    """Return the maximum number of tokens of a loaded body, or None if there is no limit.

    This is the number of rows in its table of positions, without those before the first position: a table with a
    padding index starts after it. For a body without a table, it is the number in the configuration.
    """
    config = getattr(body, "config", None)
    config = config.get_text_config() if config is not None else None
    said = getattr(config, "max_position_embeddings", None)
    limits = [said] if isinstance(said, int) and said > 0 else []  # XLNet has -1
    for name, module in body.named_modules():
        table = getattr(module, "weight", None)
        if name.rpartition(".")[2] in POSITION_TABLES and isinstance(table, Tensor) and table.dim() == 2:
            first = getattr(module, "offset", None)  # OPT and BART
            if not isinstance(first, int):
                padding = getattr(module, "padding_idx", None)
                first = 0 if padding is None else padding + 1
            limits.append(len(table) - first)
    return min(limits, default=None)


def token_states(body: PreTrainedModel, token_ids: Tensor, mask: Tensor) -> Tensor:  # [B, T], [B, T] -> [B, T, D]
    """Return the last hidden states of a body. States of padding have no meaning.

    A body whose states depend on the padding, such as one with convolutions, gets texts of one length at a time.
    """
    if bool(mask.all()):  # without padding no mask is needed, and attention without one is faster
        return cast("Tensor", body(input_ids=token_ids, attention_mask=None).last_hidden_state)
    if not padding_leaks(body):
        return cast("Tensor", body(input_ids=token_ids, attention_mask=mask).last_hidden_state)

    def states_of(rows: Tensor, length: int) -> Tensor:
        states = body(input_ids=token_ids[rows, :length], attention_mask=None).last_hidden_state
        return nn.functional.pad(states, (0, 0, 0, token_ids.shape[1] - length))

    return of_one_length(mask, states_of)


def padding_leaks(model: nn.Module) -> bool:
    """Return whether `check_body` found that a model's result for a text depends on its padding."""
    return bool(getattr(model, LEAKS, False))


def of_one_length(mask: Tensor, compute: Callable[[Tensor, int], Tensor]) -> Tensor:  # [B, T] -> [B, ...]
    """Call `compute(rows, length)` for the rows of each length, and return the results in the order of rows."""
    lengths = mask.sum(dim=1)
    groups = [(lengths == length).nonzero()[:, 0] for length in sorted(set(lengths.tolist()))]
    parts = [compute(rows, int(lengths[rows[0]])) for rows in groups]
    return torch.cat(parts)[torch.cat(groups).argsort()]


@torch.no_grad()  # not inference mode, since tensors that a body caches are used in training too
def check_body(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Test a model on two texts, separately and together. Raises InputError if it fails or keeps state.

    If the result for a text depends on its padding, `padding_leaks` returns True afterwards. A classifier is tested
    with its body, or with its logits if the body is an encoder-decoder, which needs a second text. Of an
    encoder-decoder that is a language model, the encoder is tested.
    """
    asked = model if model.config.is_encoder_decoder else model.base_model
    if asked is model and model.get_output_embeddings() is not None:  # a language model
        asked = model.get_encoder()
    short, long = (tokenizer(text)["input_ids"] for text in ("a", "a b c d e f g h i j k l"))
    width = max(len(short), len(long))
    together = [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids in (short, long)]
    device = next(model.parameters()).device
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in (short, long)], device=device)

    def read(ids: list[list[int]], mask: Tensor | None = None) -> Tensor:
        found = asked(input_ids=torch.tensor(ids, device=device), attention_mask=mask)
        states = found.logits if hasattr(found, "logits") else found.last_hidden_state[:, : len(short)]
        return cast("Tensor", states)

    name = f"{folder}: a model of type {model.config.model_type}, which"
    try:
        alone, padded, again = read([short]), read(together, mask)[:1], read([short])
    except Exception as error:  # any exception of a family's code
        raise InputError(
            f"{name} cannot read texts of {len(short)} and {width} tokens ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); such models are not supported"
        ) from error
    expected = (1, len(short), model.config.hidden_size)
    if alone.dim() == 3 and alone.shape != expected:
        raise InputError(
            f"{name} gives states of shape {tuple(alone.shape)} for a text of {len(short)} tokens, expected "
            f"{expected}; such models are not supported"
        )
    close = CLOSE if next(model.parameters()).dtype == torch.float32 else CLOSE_IN_HALF
    least = close * (alone.abs().max() if alone.dim() == 3 else 1)
    if (again - alone).abs().max() > least:
        raise InputError(f"{name} gives other states when it reads a text again; such models are not supported")
    setattr(model, LEAKS, bool((padded - alone).abs().max() > least))
