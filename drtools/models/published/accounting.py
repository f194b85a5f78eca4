"""Every tensor of a checkpoint accounted for: part of an encoder, of no use to it, or named in an error."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from drtools import units
from drtools.errors import InputError
from drtools.models.published.layouts import HeadPart, Layout, Side
from drtools.models.unused import check_unused, listed, may_go

# Names that transformers has given other words since, in all families
RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
# Families whose tensors have the same names in a checkpoint and in a model of transformers, so that both can be
# compared here; those of others are compared when the body is loaded
SAME_NAMES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "electra")


@dataclass
class Parts:
    """The tensors of one encoder: of its body by transformers' names, and of its head by part."""

    texts: str
    body: dict[str, Tensor]
    origins: dict[str, str]  # transformers' name -> the checkpoint's
    head: list[tuple[HeadPart, dict[str, Tensor]]] = field(default_factory=list)  # by the names in a folder of ours


@dataclass
class Sorted:
    """What became of a checkpoint's tensors. `useless` are their names, `aside` those with what they are."""

    parts: list[Parts]
    useless: list[str]
    aside: dict[str, list[str]]


def sort_out(tensors: Mapping[str, Tensor], layout: Layout, config: Mapping[str, Any], where: str) -> Sorted:
    """Deal the tensors of a checkpoint out by its layout; InputError with the name of one that has no place."""
    kind = config.get("model_type") or ""
    kind = "bert" if kind == "dpr" else kind
    places = {name: (side, part) for side in layout.sides for part in side.head for name in part.tensors()}
    parts = {side: Parts(side.texts, {}, {}) for side in layout.sides}
    heads: dict[Side, dict[HeadPart, dict[str, Tensor]]] = {side: {} for side in layout.sides}
    useless, unknown, aside = list[str](), list[str](), dict[str, list[str]]()
    for name, tensor in tensors.items():
        side, own = _side_of(name, layout)
        other = next((what for pattern, what in layout.aside if re.match(pattern, name)), None)
        if name in places:
            holder, part = places[name]
            heads[holder].setdefault(part, {})[part.tensors()[name]] = tensor
        elif other is not None:
            aside.setdefault(other, []).append(name)
        elif side is not None:
            for old, new in RENAMED.items():
                own = own.removesuffix(old) + new if own.endswith(old) else own
            parts[side].body[own], parts[side].origins[own] = tensor, name
        elif may_go(name, kind):
            useless.append(name)
        else:
            unknown.append(name)
    check_unused(unknown, Path(where), kind, classifier=False)
    found = [encoder for encoder in parts.values() if encoder.body]
    for side, encoder in parts.items():
        if encoder.body:
            encoder.head = _checked_head(side, heads[side], where)
    return Sorted(found, useless, aside)


def _side_of(name: str, layout: Layout) -> tuple[Side | None, str]:
    """Return the side whose body a tensor belongs to, and its name in the body."""
    for side in layout.sides:
        if name.startswith(side.prefix):
            return side, name.removeprefix(side.prefix)
    return None, name


def _checked_head(
    side: Side, found: dict[HeadPart, dict[str, Tensor]], where: str
) -> list[tuple[HeadPart, dict[str, Tensor]]]:
    """Return the parts of a head in their order. Raises InputError if tensors of one are missing."""
    for part in side.head:
        have = found.get(part, {})
        lacking = [name for name, ours in part.tensors().items() if ours not in have]
        if lacking and (have or not part.optional):
            raise InputError(
                f"the weights lack {units.counted(len(lacking), 'tensor')} of the head ({listed(lacking)})",
                where=where,
                remedy="fetch the checkpoint again",
            )
    return [(part, found[part]) for part in side.head if part in found]


def check_body(parts: Parts, config: Mapping[str, Any], where: str, architectures: Collection[str]) -> list[str]:
    """Raise InputError for a body with unexpected, missing or differently shaped tensors.

    Its own names are freed of the prefix of its family. Returns the names of those that are of no use.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    kind = config["model_type"]
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(**config))
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    prefix = f"{model.base_model_prefix}."
    for name in [name for name in parts.body if name.startswith(prefix) and name.removeprefix(prefix) in expected]:
        plain = name.removeprefix(prefix)
        parts.body[plain], parts.origins[plain] = parts.body.pop(name), parts.origins.pop(name)
    left = [name for name in parts.body if name not in expected]
    if kind not in SAME_NAMES:
        return []
    useless = [name for name in left if may_go(name, kind)]
    check_unused(
        [parts.origins[name] for name in left if name not in useless], Path(where), kind, architectures=architectures
    )
    lacking = [name for name in expected if name not in parts.body and not may_go(name, kind)]
    if lacking:
        shown = _as_there(lacking, parts)
        raise InputError(
            f"the weights lack {units.counted(len(lacking), 'tensor')} of a {kind} body ({listed(shown)})",
            where=where,
            remedy="fetch the checkpoint again, or use the config.json that belongs to it",
        )
    for name, shape in expected.items():
        if name in parts.body and parts.body[name].shape != shape:
            raise InputError(
                f"{parts.origins[name]} is {list(parts.body[name].shape)}",
                where=where,
                expected=f"{list(shape)}, as its config.json says",
                remedy="use the config.json that belongs to the weights",
            )
    for name in left:
        del parts.body[name]
    return [parts.origins[name] for name in useless]


def _as_there(names: list[str], parts: Parts) -> list[str]:
    """Return names of a body as the checkpoint would have them: behind the prefix of the others."""
    prefixes = [theirs.removesuffix(ours) for ours, theirs in parts.origins.items() if theirs.endswith(ours)]
    prefix = max(prefixes, key=len, default="")
    return [prefix + name for name in names]
