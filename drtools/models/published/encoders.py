"""Encoders of checkpoints that are recognised by the names of their tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from drtools import reporting, units
from drtools.errors import InputError, param
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import load_folder
from drtools.models.hub import resolve_tokenizer
from drtools.models.module_keys import HeadLayer
from drtools.models.pair import EncoderPair
from drtools.models.published.accounting import Parts, check_body, sort_out
from drtools.models.published.checkpoints import Checkpoint, find, read_checkpoint, tokenizer_folder
from drtools.models.published.layouts import (
    BOTH,
    CLASSES,
    DOCUMENT,
    NORMALIZED,
    POOLING_KEY,
    POOLINGS,
    QUERY,
    SIMILARITY_KEY,
    Layout,
    recognise,
)
from drtools.models.published.prefix_space import write_tokenizer
from drtools.models.published.specs import ImportSpec, said_of
from drtools.models.settings import read_settings
from drtools.models.unused import listed

BOTH_NAMED = f"name the checkpoint for queries, and use {param('document_checkpoint')} for that of documents"


def import_encoder(spec: ImportSpec, place: Path, staging: Path) -> tuple[Encoder | EncoderPair[Encoder], str]:
    """Make the encoder, or the pair, of checkpoints whose layout their tensors show; return also the layout's name."""
    found, layout = _encoders_of(spec, place, staging)
    return _one_or_pair(spec, found), layout


def _encoders_of(spec: ImportSpec, place: Path, staging: Path) -> tuple[dict[str, dict[str, Encoder]], str]:
    """Return the encoders of each checkpoint that was named, by the texts that they encode, and the layout's name."""
    tokenizer = resolve_tokenizer(spec.tokenizer) if spec.tokenizer else None
    found: dict[str, dict[str, Encoder]] = {}
    layouts = []
    for name in dict.fromkeys(filter(None, (spec.checkpoint, spec.document_checkpoint))):
        if name != spec.checkpoint:
            place = find(name, staging / "unpacked-documents")
        checkpoint = read_checkpoint(name, place, tokenizer)
        layout = recognise(checkpoint.tensors)
        layouts.append(layout.name)
        source = tokenizer_folder(checkpoint, tokenizer)
        found[name] = encoders_of(checkpoint, layout, spec, source, staging / f"staged-{len(found)}")
    return found, " and ".join(dict.fromkeys(layouts))


def encoders_of(
    checkpoint: Checkpoint, layout: Layout, spec: ImportSpec, tokenizer: Path, staging: Path
) -> dict[str, Encoder]:
    """Make the encoders of one checkpoint, and report its tensors and its settings for texts.

    `tokenizer` is the folder whose tokenizer is taken.
    """
    where = checkpoint.name
    found = sort_out(checkpoint.tensors, layout, checkpoint.config, where)
    pooling, normalize = _pooling_of(checkpoint, layout, spec)
    config = _body_config(checkpoint.config, where)
    useless = list(found.useless)
    encoders = {}
    for parts in found.parts:
        useless += check_body(parts, config, where, checkpoint.config.get("architectures") or ())
        folder = staging / parts.texts
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        body = {name: tensor.contiguous().clone() for name, tensor in parts.body.items()}
        save_file(body, folder / "model.safetensors", metadata={"format": "pt"})
        write_tokenizer(tokenizer, folder, layout, spec.prefix_space)
        encoders[parts.texts] = _load(parts, folder, pooling, normalize, _lowers(layout, spec), where)
    report(checkpoint, layout, useless, found.aside)
    return encoders


def report(checkpoint: Checkpoint, layout: Layout, useless: list[str], aside: dict[str, list[str]]) -> None:
    """Report what became of a checkpoint's tensors, and what else gives the same vectors as its program."""
    where = checkpoint.name
    used = len(checkpoint.tensors) - len(useless) - sum(map(len, aside.values()))
    reporting.say(
        f"{where}: {layout.name}; {units.counted(used, 'tensor')} used"
        + (f", {len(useless)} of no use to vectors ({listed(sorted(useless))})" if useless else "")
    )
    for what, names in aside.items():
        reporting.say(f"{where}: {listed(sorted(names))}: {what}; not imported")
    if layout.note:
        reporting.say(f"{where}: {layout.note}")


def _lowers(layout: Layout, spec: ImportSpec) -> bool:
    return layout.lower_case if spec.lower_case is None else spec.lower_case


def _pooling_of(checkpoint: Checkpoint, layout: Layout, spec: ImportSpec) -> tuple[str, bool]:
    """Return a checkpoint's pooling, and whether its vectors are scaled to length 1; nothing is guessed."""
    config = checkpoint.config
    settings = getattr(checkpoint.rest.get("opt"), "__dict__", {})  # of Contriever's training
    metric, said = config.get(SIMILARITY_KEY), config.get(POOLING_KEY) or settings.get(POOLING_KEY)
    if metric is not None and metric not in NORMALIZED:
        raise InputError(
            f"its config.json has {SIMILARITY_KEY} {metric!r}",
            where=checkpoint.name,
            expected=f"one of {', '.join(NORMALIZED)}; vectors of another kind are not supported",
        )
    if spec.pooling is not None:
        return spec.pooling, bool(NORMALIZED.get(metric or "ip"))
    if layout.pooling is not None:
        return layout.pooling, bool(NORMALIZED.get(metric or "ip"))
    known = [CLASSES[name] for name in config.get("architectures") or () if name in CLASSES]
    if said is None and not known:
        raise InputError(
            "neither its tensors nor its config.json define a pooling",
            where=checkpoint.name,
            remedy=f"use {param('pooling')} cls or mean, as its authors do",
        )
    if said is not None and said not in POOLINGS:
        raise InputError(f"its pooling is {said!r}", where=checkpoint.name, expected=f"one of {', '.join(POOLINGS)}")
    return POOLINGS[said] if said is not None else known[0], bool(NORMALIZED.get(metric or "ip"))


def _body_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the configuration of a body by itself."""
    dropped = ("architectures", "projection_dim", "auto_map", POOLING_KEY, SIMILARITY_KEY, "MCQ_M", "MCQ_K")
    kept = {key: value for key, value in config.items() if key not in dropped}
    if not kept.get("model_type"):
        raise InputError("its config.json names no model_type", where=where, remedy="add the family of the body")
    return kept | ({"model_type": "bert"} if kept["model_type"] == "dpr" else {})


def _load(parts: Parts, folder: Path, pooling: str, normalize: bool, lower: bool, where: str) -> Encoder:
    """Load an encoder from a staged folder; errors in it name the checkpoint that the user passed."""
    with said_of(where, folder):
        settings = read_settings(folder, pooling)
        settings.lower_case = lower
        if normalize:
            settings.head.append({"kind": "normalize"})
        for number, (part, tensors) in enumerate(parts.head, start=2):
            settings.head.append(_write_layer(folder, f"{number}_{part.kind}", part.kind, tensors))
        encoder = load_folder(folder, settings)
    encoder.folder = None
    return encoder


def _write_layer(folder: Path, path: str, kind: str, tensors: dict[str, torch.Tensor]) -> HeadLayer:
    """Write a layer of a head into a staged folder; return its description."""
    (folder / path).mkdir()
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / path / "model.safetensors"
    )
    if kind == "layer-norm":
        return {"kind": "layer-norm", "dimension": len(tensors["norm.weight"]), "path": path}
    out, into = tensors["linear.weight"].shape
    return {
        "kind": "dense",
        "in": into,
        "out": out,
        "bias": "linear.bias" in tensors,
        "activation": "Identity",
        "path": path,
    }


def _one_or_pair(spec: ImportSpec, found: dict[str, dict[str, Encoder]]) -> Encoder | EncoderPair[Encoder]:
    """Return the encoder of both sides, or the pair, that one or two checkpoints hold."""
    own = found[spec.checkpoint]
    if spec.document_checkpoint is None:
        if BOTH in own:
            return own[BOTH]
        if len(own) == 2:
            return _pair(own[QUERY], own[DOCUMENT])
        (texts,) = own
        plural = {QUERY: "queries", DOCUMENT: "documents"}
        raise InputError(
            f"holds the encoder of {plural[texts]} alone",
            where=spec.checkpoint,
            remedy=BOTH_NAMED,
        )
    other = found[spec.document_checkpoint]
    for name, encoders, side in ((spec.checkpoint, own, QUERY), (spec.document_checkpoint, other, DOCUMENT)):
        if len(encoders) != 1 or not encoders.keys() & {BOTH, side}:
            raise InputError(
                "holds both encoders"
                if len(encoders) == 2
                else f"holds no encoder that can be that of the {side} side",
                where=name,
                remedy=f"leave {param('document_checkpoint')} out" if len(encoders) == 2 else BOTH_NAMED,
            )
    return EncoderPair(next(iter(own.values())), next(iter(other.values())))


def _pair(query: Encoder, document: Encoder) -> Encoder | EncoderPair[Encoder]:
    """Return a pair, or the one encoder that both are."""
    theirs = document.state_dict()
    if all(torch.equal(tensor, theirs[name]) for name, tensor in query.state_dict().items() if "pooler" not in name):
        return query
    return EncoderPair(query, document)
