"""Read tensors from safetensors files into aligned memory.

safetensors maps tensors from the file, where they start at any address. On some processors, kernels sum up in another
order there than in memory that torch allocated. A model that was just loaded would give other last bits than one that
was trained, merged or copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

if TYPE_CHECKING:
    from torch import Tensor, nn

ALIGNMENT = 64  # bytes; the alignment of torch's allocator on processors


def aligned(tensor: Tensor) -> Tensor:
    """Return the tensor, or an aligned copy of it if its address is not a multiple of 64 bytes."""
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def align_weights(model: nn.Module) -> None:
    """Move a model's parameters and buffers whose address is not a multiple of 64 bytes into aligned memory."""
    for tensor in chain(model.parameters(), model.buffers()):
        tensor.data = aligned(tensor.data)


def tensor_names(files: Iterable[Path]) -> list[str]:
    """Return the names of the tensors in safetensors files."""
    names: list[str] = []
    for file in files:
        with safe_open(file, "pt") as tensors:
            names += tensors.keys()
    return names


def read_tensors(file: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file with `wanted` names into aligned memory.

    Raises OSError or SafetensorError for a file that cannot be read.
    """
    with safe_open(file, "pt") as tensors:
        return {name: aligned(tensors.get_tensor(name)) for name in tensors.keys() if wanted(name)}  # noqa: SIM118


def has_half_floats(folder: Path) -> bool:
    """Return whether the weights of a model are stored in 16 bits, without any in 32 bits."""
    kinds: set[str] = set()
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "pt") as tensors:
                kinds |= {str(tensors.get_slice(name).get_dtype()) for name in tensors.keys()}  # noqa: SIM118
        except Exception:  # a damaged file, which loading reports
            return False
    return bool(kinds & {"BF16", "F16"}) and not kinds & {"F32", "F64"}
