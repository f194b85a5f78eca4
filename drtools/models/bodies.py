"""What a body is asked for, whatever its family: its class, its positions, its token states with and without padding.

Nothing here goes by a list of families that are known to work. A body is tried on two short texts when it is loaded,
and what it cannot do is refused, or done another way.
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
# by model type: what adapters return under autocast (bfloat16) is written into a tensor that is still float32
WITHOUT_MIXED_PRECISION = ("xmod",)
LEAKS = "_padding_leaks"  # an attribute of models
CLOSE = 1e-4  # of the largest number of a text's states; float32 rounding is a hundred times less


def plain_config(config: PreTrainedConfig, folder: Path) -> tuple[PreTrainedConfig, dict[str, str]]:
    """Return the configuration to load a body by, and how to rename its tensors: expressions and what replaces them.

    DPR's encoders are BERT under other names. A family whose vectors depend on the other texts of a batch, in a way
    that nothing here can prevent, is refused.
    """
    if config.model_type == "funnel":
        raise InputError(
            (
                "a Funnel body, which shortens texts, so that its states are not those of tokens, and which keeps the "
                "length of the last batch between calls; such models are not supported"
            ),
            where=folder,
        )
    if config.model_type == "big_bird" and config.attention_type != "original_full":
        raise InputError(
            (
                f"a BigBird body with {config.attention_type} attention, which changes to full attention for good as "
                "soon as it meets a short batch"
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
                f"{config.segment_means_seq_len}, which reads texts of {config.segment_means_seq_len} tokens alone; "
                "only those where both are the same are supported"
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
            remedy=f"write it so with `drtools import-model {folder} -o FOLDER`, and name that folder",
        )
    from transformers import BertConfig

    kept = config.to_dict()
    for name in ("model_type", "projection_dim", "architectures"):
        kept.pop(name, None)
    return BertConfig(**kept), {DPR_PREFIX: ""}


def body_class(config: PreTrainedConfig, folder: Path) -> type[_BaseAutoModelClass]:
    """Return the class to load a body with: of an encoder-decoder its encoder alone.

    Files of such an encoder may say `is_encoder_decoder: false`, as transformers 5 writes when it saves one.
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
    """Return the most tokens that a loaded body can read or was made for, or None if there is no limit.

    That is the number of rows in its table of positions, less those before the first position: a table with a padding
    index begins after it. Bodies without a table are held to what their configuration says.
    """
    config = getattr(body, "config", None)
    config = config.get_text_config() if config is not None else None
    said = getattr(config, "max_position_embeddings", None)
    limits = [said] if isinstance(said, int) and said > 0 else []  # XLNet's is -1
    for name, module in body.named_modules():
        table = getattr(module, "weight", None)
        if name.rpartition(".")[2] in POSITION_TABLES and isinstance(table, Tensor) and table.dim() == 2:
            first = getattr(module, "offset", None)  # OPT's and BART's
            if not isinstance(first, int):
                padding = getattr(module, "padding_idx", None)
                first = 0 if padding is None else padding + 1
            limits.append(len(table) - first)
    return min(limits, default=None)


def token_states(body: PreTrainedModel, token_ids: Tensor, mask: Tensor) -> Tensor:  # [B, T], [B, T] -> [B, T, D]
    """Return a body's last states; what stands at padding has no meaning.

    A body whose states depend on the padding, for it convolves over tokens, is given texts of one length at a time.
    """
    if bool(mask.all()):  # without padding the mask says nothing, and attention without one is faster
        return cast("Tensor", body(input_ids=token_ids, attention_mask=None).last_hidden_state)
    if not padding_leaks(body):
        return cast("Tensor", body(input_ids=token_ids, attention_mask=mask).last_hidden_state)

    def states_of(rows: Tensor, length: int) -> Tensor:
        states = body(input_ids=token_ids[rows, :length], attention_mask=None).last_hidden_state
        return nn.functional.pad(states, (0, 0, 0, token_ids.shape[1] - length))

    return of_one_length(mask, states_of)


def padding_leaks(model: nn.Module) -> bool:
    """Return whether `try_body` found that what a model gives for a text depends on the padding behind it."""
    return bool(getattr(model, LEAKS, False))


def of_one_length(mask: Tensor, compute: Callable[[Tensor, int], Tensor]) -> Tensor:  # [B, T] -> [B, ...]
    """Compute rows of one length at a time, by `compute(rows, length)`, and return the results in the rows' order."""
    lengths = mask.sum(dim=1)
    groups = [(lengths == length).nonzero()[:, 0] for length in sorted(set(lengths.tolist()))]
    parts = [compute(rows, int(lengths[rows[0]])) for rows in groups]
    return torch.cat(parts)[torch.cat(groups).argsort()]


@torch.no_grad()  # and not inference mode: what a body caches must serve its training too
def try_body(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Read a short and a longer text apart and together, and refuse a model that cannot, or that keeps a memory.

    What comes out for a text may depend on how much padding follows it; `padding_leaks` knows it afterwards. A
    classifier is tried by its body, or by its logits where the body needs a second text (an encoder-decoder).
    """
    asked = model if model.config.is_encoder_decoder else model.base_model
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
    except Exception as error:  # whatever a family's code raises
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
    least = CLOSE * (alone.abs().max() if alone.dim() == 3 else 1)
    if (again - alone).abs().max() > least:
        raise InputError(f"{name} answers otherwise when it reads a text again; such models are not supported")
    setattr(model, LEAKS, bool((padded - alone).abs().max() > least))
