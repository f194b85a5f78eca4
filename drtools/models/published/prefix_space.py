"""Write the tokenizer of a checkpoint next to its staged weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drtools.errors import InputError, param
from drtools.models.published.layouts import Layout

KEY = "add_prefix_space"


def write_tokenizer(source: Path, folder: Path, layout: Layout, prefix_space: bool | None) -> None:
    """Write a tokenizer into a staged folder, with or without a space before the first word of each text.

    None leaves that to the layout.
    """
    from transformers import AutoTokenizer

    from drtools.models.trust import only_trusted_code

    try:
        with only_trusted_code(False):
            AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    except Exception as error:  # without its files each family fails in its own way
        raise InputError(
            f"its tokenizer could not be loaded ({' '.join(str(error).split())[:200]})",
            where=source,
            remedy=f"use {param('tokenizer')} to name the model that the checkpoint was trained from",
        ) from None
    asked = layout.prefix_space if prefix_space is None else prefix_space
    if not asked and prefix_space is None:
        return
    file = folder / "tokenizer.json"
    content = json.loads(file.read_bytes()) if file.exists() else {}
    steps = [part for part in _nested(content.get("pre_tokenizer")) if KEY in part]
    if not steps and asked:
        raise InputError(
            f"its tokenizer knows no {KEY}, which {layout.name} needs"
            if prefix_space is None
            else f"its tokenizer knows no {KEY}",
            where=source,
            expected="a tokenizer of bytes, as RoBERTa's",
            remedy=f"use {param('tokenizer')} roberta-base, or leave {param('prefix_space')} out",
        )
    for part in [*steps, *(part for part in _nested(content.get("post_processor")) if KEY in part)]:
        part[KEY] = asked
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_bytes()), KEY: asked}), encoding="utf-8")


def _nested(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield a part of tokenizer.json and the parts in it."""
    if part is not None:
        yield part
        for inner in (*(part.get("pretokenizers") or ()), *(part.get("processors") or ())):
            yield from _nested(inner)
