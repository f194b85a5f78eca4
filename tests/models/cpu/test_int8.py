"""Linear layers in int8: the product of a loop, bits that do not depend on other rows, and bodies that have them."""

import numpy as np
import pytest
import torch
from torch import nn

from drtools.models.cpu import int8
from drtools.models.cpu.int8 import Int8Linear, use_int8


def product_of_a_loop(layer: nn.Linear, states: torch.Tensor, levels: int) -> np.ndarray:
    """Round each output's weights and each token's inputs, multiply integers one by one, and scale the sums."""
    weight, bias, rows = layer.weight.detach().numpy(), layer.bias.detach().numpy(), states.numpy()
    made = np.empty((len(rows), len(weight)))
    for i, row in enumerate(rows):
        of_row = np.float32(126) / np.abs(row).max()
        numbers = [int(value) for value in np.round(row * of_row)]
        for j, column in enumerate(weight):
            of_column = np.abs(column).max() / np.float32(levels)
            integers = [int(value) for value in np.round(column / of_column)]
            total = sum(a * b for a, b in zip(numbers, integers, strict=True))
            made[i, j] = total * float(of_column) / float(of_row) + float(bias[j])
    return made


@pytest.mark.parametrize("vnni", [True, False])
def test_the_product_is_that_of_a_loop(monkeypatch, vnni):
    if vnni and not int8.has_vnni():
        vnni = False
    monkeypatch.setattr(int8, "has_vnni", lambda: vnni)
    torch.manual_seed(3)
    layer, states = nn.Linear(20, 7), torch.randn(9, 20) * torch.logspace(-3, 3, 9)[:, None]
    with torch.inference_mode():
        made = Int8Linear(layer, object())(states)
        plain = layer(states)
        assert torch.equal(Int8Linear(layer, object())(states.view(3, 3, 20)), made.view(3, 3, 7))
    truth = product_of_a_loop(layer, states, 127 if vnni else 63)
    np.testing.assert_allclose(made.numpy(), truth, rtol=1e-4, atol=1e-5)
    assert not torch.equal(made, plain)
    apart = (made - plain).norm(dim=1) / plain.norm(dim=1)
    assert 0 < apart.max() < (0.03 if vnni else 0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_inputs_do_not_overflow(dtype):
    layer = nn.Linear(96, 4, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    generator = np.random.default_rng(0)
    states = torch.from_numpy(generator.uniform(0.5, 4, (400, 1)).astype(np.float32)).to(dtype)
    for sign in (1, -1):
        rows = (sign * states).expand(-1, 96).contiguous()
        with torch.inference_mode():
            made = Int8Linear(layer, object())(rows).float()
        torch.testing.assert_close(made, (96 * rows[:, :4]).float(), rtol=0.02, atol=0)
    with torch.inference_mode():
        assert torch.equal(Int8Linear(layer, object())(torch.zeros(2, 96, dtype=dtype)), torch.zeros(2, 4, dtype=dtype))


@pytest.mark.bits
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_has_the_same_bits_in_products_of_any_size(dtype):
    if dtype == torch.bfloat16 and not torch.cpu.get_capabilities().get("avx512_bf16"):
        dtype = torch.float32  # the rest of a body is float32 there
    torch.manual_seed(1)
    states = torch.randn(300, 96).to(dtype)
    layer = Int8Linear(nn.Linear(96, 384), object()).to(dtype)
    with torch.inference_mode():
        whole = layer(states)
        for count in (1, 2, 3, 15, 16, 17, 47, 48, 100, 299):
            assert torch.equal(layer(states[:count]), whole[:count]), count
            assert torch.equal(layer(states[1 : count + 1].clone()), whole[1 : count + 1]), count
    assert whole.float().std() > 0.1


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.output = (nn.Linear(16, 16) for _ in range(3))


def test_layers_of_one_module_round_the_same_input_once(monkeypatch):
    torch.manual_seed(0)
    module, states = nn.Sequential(Attention(), Attention()), torch.randn(20, 16)
    plain = [nn.Linear(16, 16), nn.Linear(16, 16)]
    for layer, source in zip(plain, (module[0].query, module[0].key), strict=True):
        layer.load_state_dict(source.state_dict())
    assert use_int8(module) == 6
    rounded, amax = [], torch.Tensor.amax
    monkeypatch.setattr(torch.Tensor, "amax", lambda *arguments, **more: rounded.append(1) or amax(*arguments, **more))
    with torch.inference_mode():
        query, key = module[0].query(states), module[0].key(states)
        assert len(rounded) == 1
        other = module[0].output(query)
        module[1].query(query)
        assert len(rounded) == 3
        alone = [Int8Linear(layer, object())(states) for layer in plain]
        assert torch.equal(module[0].output(query.clone()), other)
    assert torch.equal(query, alone[0]) and torch.equal(key, alone[1])


def test_only_plain_linear_layers_are_replaced():
    class Scaled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    module = nn.Sequential(Scaled(8, 8), nn.LayerNorm(8))
    assert use_int8(module) == 0 and type(module[0]) is Scaled
