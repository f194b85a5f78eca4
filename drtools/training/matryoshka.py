"""Matryoshka training: a method's loss, summed over prefixes of the vectors (Kusupati et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.nn.functional import normalize

from drtools.errors import InputError, param

if TYPE_CHECKING:
    from torch import Tensor

    from drtools.training.gradients import Loss, Metrics


def prefixes_of(words: str | None, dimension: int) -> list[int]:
    """Return the dimensions in a specification such as `768,256,64`, the largest first; none without one.

    Raises InputError for numbers that are not dimensions of the encoder, and if its own dimension is missing.
    """
    if words is None:
        return []
    where = f"{param('matryoshka')} {words}"
    try:
        found = sorted((int(word) for word in words.split(",")), reverse=True)
    except ValueError:
        raise InputError(where=where, expected="dimensions with commas between them, such as 768,256,64") from None
    if len(set(found)) < len(found) or found[-1] < 1:
        raise InputError(where=where, expected="different dimensions of 1 or more")
    if found[0] != dimension:
        raise InputError(
            f"the encoder's vectors have {dimension} dimensions",
            where=where,
            expected=f"{dimension} and smaller dimensions",
        )
    return found


def prefix(vectors: Tensor, dimension: int, normalized: bool) -> Tensor:  # [..., D] -> [..., dimension]
    """Return the first dimensions of vectors, scaled to length 1 if they are `normalized`."""
    cut = vectors[..., :dimension]
    return normalize(cut, dim=-1) if normalized else cut


def matryoshka(loss_of: Loss, dimensions: Sequence[int], normalized: Mapping[str, bool]) -> Loss:
    """Return the sum of a loss over prefixes of the vectors, each with weight 1 (Kusupati et al. 2022, Eq. 1).

    `dimensions` begin with the whole one, D, for which the loss gets the vectors as they are. A row of several vectors
    [K * D], such as a document with its pieces, gets the prefix of each. `normalized` says for each side whether the
    encoder's vectors have length 1; prefixes then get length 1 too. The metrics are those of the whole vectors, and
    the loss of each dimension.
    """
    whole = dimensions[0]

    def loss(*inputs: Any) -> tuple[Tensor, Metrics]:
        *rows, batch = inputs
        total, metrics = loss_of(*rows, batch)
        metrics = {**metrics, f"loss {whole}": float(total.detach())}
        for dimension in dimensions[1:]:
            cut = [
                prefix(part.unflatten(1, (-1, whole)), dimension, normalized[side]).flatten(1)
                for side, part in zip(batch.tokens, rows, strict=True)
            ]
            value, _ = loss_of(*cut, batch)
            metrics[f"loss {dimension}"] = float(value.detach())
            total = total + value
        return total, metrics

    return loss
