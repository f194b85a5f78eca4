"""Linear layers on a processor whose products are computed in 8-bit integers.

Weights have one scale for each output, inputs one for each token. oneDNN's kernels sum up in 32-bit integers, which is
exact. A row of a product therefore does not depend on the other rows.

With all-MiniLM-L6-v2 and texts of 256 tokens, it takes .9 of the time of float32 on a Xeon whose oneDNN is limited to
VNNI, but 1.4 times that of bfloat16 with AMX: rounding inputs and scaling products then takes longer than the products.
Wide layers (768 to 3,072 and back) take .4 to .6 of the time of float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn

from drtools.errors import WorldError, param

LEVELS = 127  # of weights: -127 to 127
# without VNNI, kernels add two products of a weight and an input up to 255 in 16 bits, which must not overflow
LEVELS_WITHOUT_VNNI = 63
# Of inputs. Their scale is rounded to bfloat16, which may make the largest number 127.5, and 127.5 rounds to 128.
INPUT_LEVELS = 126
ZERO = 128  # added to inputs: oneDNN has fast kernels for unsigned inputs everywhere, for signed ones with AMX alone
# inputs, integers and products of so many rows stay in a core's own cache: 1,024 rows of 384 inputs and 1,536 outputs
# take 3.9 instead of 9.0 ms here
SLICE_ROWS = 256
SMALLEST = 1e-12  # of what is divided by

_of_thread = threading.local()


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, for inference.

    It returns the floating-point type that it gets. `siblings` is the same object for layers of one module. They often
    get the same input, such as the query, key and value of an attention, which is then rounded once.
    """

    def __init__(self, layer: nn.Linear, siblings: object) -> None:
        super().__init__()
        self.in_features, self.out_features, self.siblings = layer.in_features, layer.out_features, siblings
        weight = layer.weight.detach().float()
        scales = weight.abs().amax(1).clamp_(min=SMALLEST) / (LEVELS if has_vnni() else LEVELS_WITHOUT_VNNI)
        rounded = (weight / scales[:, None]).round_().to(torch.int8)
        # neither parameters nor buffers, as the packed form cannot be moved or cast
        self.weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.scales, self.zeros = scales, torch.zeros(len(scales), dtype=torch.int32)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone(), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:  # [..., D] -> [..., D']
        """Compute the product of the rounded inputs and weights, times both scales, plus the bias."""
        rounded, scales = self._round(states)
        made = states.new_empty(len(rounded), self.out_features)
        for part in _slices(len(rounded)):
            product = torch.ops.onednn.qlinear_pointwise(
                rounded[part],
                *(1.0, ZERO, self.weight, self.scales, self.zeros),
                *(None, 1.0, 0, states.dtype, "none", [], "none"),  # no bias; the output is not rounded; no activation
            )
            if self.bias is None:
                torch.mul(product, scales[part], out=made[part])
            else:
                torch.addcmul(self.bias, product, scales[part], out=made[part])
        return made.view(*states.shape[:-1], self.out_features)

    def _round(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs uint8 [N, D], and a scale for each [N, 1]. The last ones of a thread are kept."""
        if getattr(_of_thread, "siblings", None) is self.siblings and _of_thread.states is states:
            kept: tuple[Tensor, Tensor] = _of_thread.rounded
            return kept
        rows = states.reshape(-1, self.in_features)
        rounded, scales = torch.empty_like(rows, dtype=torch.uint8), rows.new_empty(len(rows), 1)
        for part in _slices(len(rows)):
            largest = rows[part].abs().amax(1, keepdim=True).clamp_(min=SMALLEST)
            signed = (rows[part] * (INPUT_LEVELS / largest)).round_().to(torch.int8)
            rounded[part] = signed.view(torch.uint8).bitwise_xor_(ZERO)  # adds it
            scales[part] = largest / INPUT_LEVELS
        _of_thread.siblings, _of_thread.states, _of_thread.rounded = self.siblings, states, (rounded, scales)
        return rounded, scales


def _slices(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + SLICE_ROWS, rows)) for start in range(0, rows, SLICE_ROWS))


@cache
def has_vnni() -> bool:
    """Measure whether kernels add products of 8-bit integers in 32 bits, as with VNNI and AMX.

    The processor's abilities do not tell, as ONEDNN_MAX_CPU_ISA may rule them out. Raises WorldError if torch has no
    such kernels.
    """
    if not hasattr(torch.ops.onednn, "qlinear_prepack"):
        raise WorldError(
            f"{param('precision')} int8: this torch was built without oneDNN; use {param('precision')} auto"
        )
    inputs, outputs, largest = 64, 16, 255
    weight = torch.ops.onednn.qlinear_prepack(torch.full((outputs, inputs), LEVELS, dtype=torch.int8), None)
    rows = torch.full((SLICE_ROWS, inputs), largest, dtype=torch.uint8)
    scales, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int32)
    made: Tensor = torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, ZERO, weight, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "none"
    )
    return bool((made == inputs * LEVELS * (largest - ZERO)).all())


def use_int8(body: nn.Module) -> int:
    """Replace every nn.Linear in a body. Returns their number."""
    count = 0
    for module in list(body.modules()):
        siblings = object()
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child, siblings))
                count += 1
    return count
