"""MiniCPM with a head for scores above each of its last layers (bge-reranker-v2-minicpm-layerwise).

transformers does not have this family. It is Granite with other names for its factors, so none of the code that comes
with the model has to run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from drtools.errors import InputError
from drtools.models.json_files import body_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LAYERWISE = "LayerWiseMiniCPMForCausalLM"


def layerwise_config(folder: Path) -> PreTrainedConfig | None:
    """Return the configuration of a MiniCPM with a head above each of its last layers, or None for another model.

    transformers does not have this family. It is Granite with other names for its factors, so no code of the model is
    needed.
    """
    from transformers import GraniteConfig

    record = body_config(folder)
    if LAYERWISE not in (record.get("architectures") or ()):
        return None
    if (
        record.get("head_type", "simple") != "simple"
        or not record.get("head_multi", True)
        or record.get("rope_scaling")
    ):
        raise InputError(
            f"head_type {record.get('head_type')!r}, head_multi {record.get('head_multi')!r} and rope_scaling "
            f"{record.get('rope_scaling')!r}",
            where=folder / "config.json",
            expected="'simple', true and null; other layerwise models are not supported",
        )
    same: tuple[str, ...] = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
    )
    same += ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "attention_bias", "bos_token_id")
    config = GraniteConfig(
        **{name: record[name] for name in same if record.get(name) is not None},
        pad_token_id=record.get("pad_token_id"),
        eos_token_id=record.get("eos_token_id"),
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": record.get("rope_theta", 10000.0)},
        embedding_multiplier=float(record.get("scale_emb", 1)),
        residual_multiplier=record.get("scale_depth", 1) / math.sqrt(record["num_hidden_layers"]),
        attention_multiplier=(record["hidden_size"] / record["num_attention_heads"]) ** -0.5,
        logits_scaling=1.0,
    )
    config.start_layer, config.architectures = record.get("start_layer", 8), [LAYERWISE]
    return config


def layerwise_class(config: PreTrainedConfig, folder: Path) -> Any:
    """Return the class of such a model."""
    from transformers import GraniteForCausalLM

    class Head(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.linear_head = nn.Linear(size, 1, bias=False)

    class Layerwise(GraniteForCausalLM):
        _tied_weights_keys: Any = None

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            heads = range(config.start_layer, config.num_hidden_layers + 1)
            self.lm_head: Any = nn.ModuleList([Head(config.hidden_size) for _ in heads])
            self.post_init()  # type: ignore[no-untyped-call]

    return Layerwise
