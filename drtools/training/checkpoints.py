"""Save and load the model and the optimizer as safetensors, so that a stopped training continues exactly."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from drtools.errors import InputError, param
from drtools.models.protocol import Learner
from drtools.models.weights import read_tensors

CHECKSUM = "crc32"  # the key in a file's metadata


def _frozen(model: Learner) -> set[str]:
    """Return the names of frozen parameters, which are in the start model."""
    return {name for name, parameter in model.named_parameters(remove_duplicate=False) if not parameter.requires_grad}


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the CRC-32 of tensors with their names, types and shapes."""
    crc = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def save_tensors(path: Path, model: Learner, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Write the trained parameters and the buffers of a model, and the state of the optimizer if it is given."""
    frozen = _frozen(model)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items() if name not in frozen}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    # a tensor with two names (tied embeddings) is written under both
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(kept, path, metadata={CHECKSUM: str(_checksum(kept))})


def load_tensors(path: Path, model: Learner, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Load what `save_tensors` wrote."""
    try:
        tensors = read_tensors(path)
        with safe_open(path, "pt") as file:
            known = (file.metadata() or {}).get(CHECKSUM)  # 0.1.0 wrote none
        if known is not None and known != str(_checksum(tensors)):
            raise SafetensorError("its content changed after it was written")
    except (SafetensorError, FileNotFoundError) as error:
        raise InputError(
            f"the checkpoint is damaged or missing ({error})",
            where=path,
            remedy=f"start afresh with {param('overwrite')}",
        ) from None
    found = model.load_state_dict(
        {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")},
        strict=False,
    )
    lacking = [name for name in found.missing_keys if name not in _frozen(model)]
    if lacking or found.unexpected_keys:
        raise InputError(
            f"not a checkpoint of this training (first: {[*lacking, *found.unexpected_keys][0]})",
            where=path,
            remedy=f"start afresh with {param('overwrite')}",
        )
    if optimizer is None:
        return
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
