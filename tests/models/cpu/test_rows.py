"""Linear layers whose rows do not depend on how many there are, also where the processor's kernels do."""

import numpy as np
import pytest
import torch
from torch import nn

from drtools.models.cpu import rows
from drtools.models.cpu.rows import Blocks, blocks_of, make_rows_independent
from drtools.models.cross_encoder import load_cross_encoder
from tests.models.test_cross_encoder import PAIRS, logits_of

pytestmark = pytest.mark.bits

SIZES = [(32, 32), (32, 64), (64, 32), (32, 24), (384, 384), (384, 1536), (1536, 384)]


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_a_row_has_the_same_bits_in_products_of_any_size(inputs, outputs):
    torch.manual_seed(1)
    layer, states = nn.Linear(inputs, outputs), torch.randn(300, inputs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        make_rows_independent(layer)
        with torch.inference_mode():
            whole = layer(states)
            for count in (*range(rows.LEAST_ROWS, 140), 199, 200, 256, 299):
                assert torch.equal(layer(states[:count]), whole[:count]), count
                assert torch.equal(layer(states[1 : count + 1].clone()), whole[1 : count + 1]), count
    finally:
        torch.set_num_threads(threads)
    truth = states.double().numpy() @ layer.weight.detach().double().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(whole.numpy(), truth, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 5, 6, 47, 48, 49, 95, 96, 131])
def test_blocks_give_the_product(monkeypatch, count):
    monkeypatch.setattr(rows, "blocks_of", lambda inputs, outputs: Blocks(6, 48))
    torch.manual_seed(1)
    layer, states = nn.Linear(20, 7), torch.randn(count, 20)
    plain = nn.functional.linear(states, layer.weight, layer.bias)
    make_rows_independent(layer)
    with torch.inference_mode():
        torch.testing.assert_close(layer(states), plain)
        torch.testing.assert_close(layer(states.view(count, 1, 20)), plain.view(count, 1, 7))
        assert layer(states[:0]).shape == (0, 7)
    layer(states).sum().backward()  # with gradients it is the plain layer
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_kernels_that_need_no_blocks_get_none():
    if torch.backends.mkl.is_available() and blocks_of(64, 32) is None:
        layer = nn.Linear(64, 32)
        make_rows_independent(layer)
        assert type(layer) is nn.Linear
    half = nn.Linear(64, 32, dtype=torch.bfloat16)
    make_rows_independent(half)
    assert type(half) is nn.Linear


def test_a_head_in_float32_above_a_body_in_bfloat16_computes_in_blocks(monkeypatch, rankers):
    plain = logits_of(load_cross_encoder(rankers["bert"]), PAIRS, "bf16")
    monkeypatch.setattr(rows, "blocks_of", lambda inputs, outputs: Blocks(6, 48))
    encoder = load_cross_encoder(rankers["bert"])
    found = logits_of(encoder, PAIRS, "bf16")
    (head,) = (part for part in encoder.heads if isinstance(part, nn.Linear))
    assert type(head) is not nn.Linear and plain.std() > 0.01
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)
    states = torch.randn(3, head.in_features).bfloat16()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made = head(states)
    assert made.dtype == torch.float32, "in blocks and not, it computes in float32"
    truth = nn.functional.linear(states.float(), head.weight, head.bias)
    torch.testing.assert_close(made, truth, rtol=1e-5, atol=1e-5)
