"""Bfloat16 attention for encoding on a processor, in slices whose scores stay in its cache.

torch's own bfloat16 kernel for processors reaches about half the speed of plain batched products here: per layer of
all-MiniLM-L6-v2, 8,192 tokens, 48 against 26 ms at texts of 256 tokens, 90 against 44 at 512, 31 against 17 at 128.
"""

import torch
from torch import Tensor, nn

NAME = "drtools_sliced"
SLICE_NUMBERS = 2**21  # scores in a slice: 4 MB


def sliced_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
                     scaling: float | None = None, dropout: float = 0.0, **others: object) -> tuple[Tensor, None]:
    """Attend, [B, H, T, D] -> [B, T, H, D]; whatever is not plain bidirectional inference goes to transformers' SDPA."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    plain = query.dtype == torch.bfloat16 and query.shape == key.shape == value.shape and not torch.is_grad_enabled()
    causal = others.get("is_causal")
    if causal is None:
        causal = module.is_causal if hasattr(module, "is_causal") else True
    special = any(others.get(name) is not None for name in ("position_bias", "softcap", "s_aux", "cache"))
    if not plain or causal or special or (attention_mask is not None and attention_mask.dtype != torch.bool):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others)
    texts, heads, tokens, size = query.shape
    query = (query * (size**-0.5 if scaling is None else scaling)).reshape(-1, tokens, size)
    key, value = key.reshape(-1, tokens, size), value.reshape(-1, tokens, size)
    result = torch.empty_like(query)
    step = max(1, SLICE_NUMBERS // (heads * tokens * tokens))
    room = query.new_empty(step * heads, tokens, tokens)
    for first in range(0, texts, step):
        part = slice(first * heads, min(first + step, texts) * heads)
        scores = room[: part.stop - part.start]
        torch.bmm(query[part], key[part].transpose(1, 2), out=scores)
        if attention_mask is not None:
            scores.view(-1, heads, tokens, tokens).masked_fill_(~attention_mask[first : first + step], float("-inf"))
        torch.softmax(scores, dim=-1, out=scores)
        torch.bmm(scores, value[part], out=result[part])
    return result.view(texts, heads, tokens, size).transpose(1, 2).contiguous(), None


def use_sliced_attention(body: nn.Module) -> None:
    """Switch a body that runs transformers' SDPA to sliced attention."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if body.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, sliced_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        body.set_attn_implementation(NAME)
