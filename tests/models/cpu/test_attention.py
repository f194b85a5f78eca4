"""Attention and dropout while training on a processor, against naive computations and numerical gradients."""

import threading

import pytest
import torch

from drtools.models.cpu import attention
from drtools.models.cpu.attention import _Trained
from drtools.models.cpu.dropout import Dropout, multipliers, seeded, use_own_dropout


def inputs(dtype=torch.float64, texts=3, heads=2, tokens=5, size=4):
    torch.manual_seed(1)
    return [torch.randn(texts, heads, tokens, size, dtype=dtype, requires_grad=True) for _ in range(3)]


def naive(query, key, value, mask, scaling, kept):
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * scaling
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    chosen = scores.softmax(-1)
    return torch.einsum("bhij,bhjd->bhid", chosen if kept is None else chosen * kept, value)


MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)[:, None, None, :]


@pytest.mark.parametrize("slice_numbers", [1, 2**21], ids=["a text a slice", "one slice"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_attention_and_its_gradient_equal_the_formula(monkeypatch, mask, dropout, slice_numbers):
    monkeypatch.setattr(attention, "SLICE_NUMBERS", slice_numbers)
    ours, theirs = inputs(), inputs()
    weights = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    with seeded(7):
        result = _Trained.apply(*ours, mask, 0.5, dropout)
    kept = None
    if dropout:
        with seeded(7):  # the same draws, in the same order of slices
            parts = (
                [multipliers(torch.Size((2, 5, 5)), dropout, torch.float64) for _ in range(3)]
                if slice_numbers == 1
                else [multipliers(torch.Size((6, 5, 5)), dropout, torch.float64)]
            )
        kept = torch.cat(parts).view(3, 2, 5, 5)
    expected = naive(*theirs, mask, 0.5, kept)
    torch.testing.assert_close(result, expected)
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_dropout_drops_its_share_and_keeps_the_mean():
    with seeded(1):
        drawn = multipliers(torch.Size((1000, 1000)), 0.1, torch.float32)
    dropped = (drawn == 0).double().mean().item()
    assert abs(dropped - 0.1) < 5 * (0.09 / 1e6) ** 0.5
    assert set(drawn.unique().tolist()) == {0.0, drawn.max().item()} and drawn.max().item() == pytest.approx(
        1 / 0.9, rel=1e-4
    )
    assert abs(drawn[:, ::2].mean() - 1) < 5e-3 and abs(drawn[::2].mean() - 1) < 5e-3


def test_a_threads_draws_depend_on_its_seed_alone():
    drawn = {}

    def draw(seed):
        with seeded(seed):
            for _ in range(20):
                drawn[seed] = multipliers(torch.Size((999,)), 0.5, torch.float32)

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    beside = dict(drawn)
    draw(1)
    assert torch.equal(drawn[1], beside[1]) and not torch.equal(beside[1], beside[2])


def test_every_dropout_of_a_body_is_replaced(bert):
    from drtools.models.loader import load_encoder

    body = load_encoder(bert, pooling="cls").body
    count = sum(type(module) is torch.nn.Dropout for module in body.modules())
    use_own_dropout(body)
    assert count and sum(type(module) is Dropout for module in body.modules()) == count
    assert not any(type(module) is torch.nn.Dropout for module in body.modules())
