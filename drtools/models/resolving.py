"""The folder that a model is loaded from, by its name.

safetensors are loaded as they are, pickled weights as a copy of them, a LoRA together with its base model.
"""

from __future__ import annotations

from pathlib import Path

from drtools.errors import InputError
from drtools.models.hub import find
from drtools.models.lora_files import added_lora, is_lora, linked, read_lora


def resolve(name: str) -> Path:
    """Return the folder of a model, from the name of a folder or of a model on the hub.

    For a model whose weights are pickled alone, it is a folder of the cache with the same weights as safetensors.
    Reading a pickle runs no code. For a LoRA, it is a folder with links to the files of its base model and its own.

    Raises InputError if the name is not a folder or a hub name, if this user has no access, or if the weights cannot be
    read without a choice by the user. Raises WorldError if the hub cannot be reached.
    """
    folder = find(name)
    if is_lora(folder):
        base = read_lora(folder).base
        whole = resolve(base)
        if added_lora(whole) is not None:
            raise InputError(
                f"its base model {base} is a LoRA itself", where=folder, remedy="merge that with `drtools merge`"
            )
        return linked(folder, whole)
    if not is_pickled(folder):
        return folder
    from drtools.models.published.direct import converted

    return converted(name, folder)


def is_pickled(folder: Path) -> bool:
    """Return whether the weights of a folder are pickled under their usual names, and nothing but them is there."""
    if any(folder.glob("*.safetensors")) or (folder / "adapter_config.json").exists():  # the adapter names its model
        return False
    places = [folder, *(folder.glob("*/") if (folder / "modules.json").exists() else ())]
    return any((place / name).exists() for place in places for name in PICKLED)


PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
