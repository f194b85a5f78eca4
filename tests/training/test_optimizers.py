"""Optimizers against a step by hand and against numpy in double precision."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from drtools.training.checkpoints import load_tensors, save_tensors
from drtools.training.optimizers import OPTIMIZERS, parameter_groups

DECAY = 0.01


class Weights(nn.Module):
    """Tensors of several shapes.

    One all zeros, one longer than 10, one without any gradient, one that is not trained.
    """

    def __init__(self, dtype=torch.float64):
        super().__init__()
        generator = np.random.default_rng(3)
        self.matrix = nn.Parameter(torch.tensor(generator.normal(size=(4, 3)), dtype=dtype))
        self.zeros = nn.Parameter(torch.zeros(3, 2, dtype=dtype))
        self.bias = nn.Parameter(torch.tensor(generator.normal(size=5), dtype=dtype))
        self.long = nn.Parameter(torch.tensor(20 * generator.normal(size=(6, 6)), dtype=dtype))
        self.unused = nn.Parameter(torch.ones(2, 2, dtype=dtype))
        self.frozen = nn.Parameter(torch.ones(2, 2, dtype=dtype), requires_grad=False)

    def set_gradients(self, step):
        """Set gradients that depend on the step and the weights; return them as numpy arrays by name."""
        generator = np.random.default_rng(100 + step)
        gradients = {}
        for name in ("matrix", "zeros", "bias", "long"):
            weight = getattr(self, name)
            gradients[name] = generator.normal(size=weight.shape) + 0.1 * weight.detach().double().numpy()
            weight.grad = torch.tensor(gradients[name], dtype=weight.dtype)
        return gradients


def lamb_by_numpy(weight, gradient, state, rate, decay):
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * gradient * gradient
    update = state["m"] / (np.sqrt(state["v"]) + 1e-8) + decay * weight
    length = min(10.0, math.sqrt(float((weight**2).sum())))
    update_length = math.sqrt(float((update**2).sum()))
    trust = length / update_length if length > 0 and update_length > 0 else 1.0
    return weight - rate * trust * update


def adamw_by_numpy(weight, gradient, state, rate, decay):
    state["t"] = state.get("t", 0) + 1
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * gradient * gradient
    mean, square = state["m"] / (1 - 0.9 ** state["t"]), state["v"] / (1 - 0.999 ** state["t"])
    return weight * (1 - rate * decay) - rate * mean / (np.sqrt(square) + 1e-8)


def take_step(optimizer, rate):
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def test_one_lamb_step_by_hand():
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    model.weight.data = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    model.weight.grad = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    take_step(OPTIMIZERS["lamb"](model, 0.1), rate=0.01)
    # m = .1 g, v = .001 g^2: m / sqrt(v) = .1 / sqrt(.001) * sign(g) = +-3.16227766; |w| = 5
    update = (3.16227766 + 0.3, -3.16227766 + 0.4)
    trust = 5 / math.hypot(*update)
    expected = [3 - 0.01 * trust * update[0], 4 - 0.01 * trust * update[1]]
    assert model.weight.tolist()[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("name", "by_numpy", "steps"), [("lamb", lamb_by_numpy, 50), ("adamw", adamw_by_numpy, 10)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_steps_equal_numpy(name, by_numpy, steps, dtype, tolerance):
    model = Weights(dtype)
    optimizer = OPTIMIZERS[name](model, DECAY)
    truth = {key: weight.detach().double().numpy().copy() for key, weight in model.named_parameters()}
    states = {key: {} for key in truth}
    assert np.linalg.norm(truth["long"]) > 10 and not truth["zeros"].any()
    for step in range(steps):
        rate = 0.002 * (1 + step % 3)
        for key, gradient in model.set_gradients(step).items():
            truth[key] = by_numpy(truth[key], gradient, states[key], rate, 0.0 if key == "bias" else DECAY)
        take_step(optimizer, rate)
    for key, weight in model.named_parameters():
        assert weight.detach().double().numpy() == pytest.approx(truth[key], rel=tolerance, abs=tolerance), key
    assert (model.unused == 1).all() and (model.frozen == 1).all(), "what has no gradient stays, decay or not"


@pytest.mark.parametrize("gradient", [0.0, 1.0])
def test_lamb_trusts_by_1_where_weights_or_update_are_zero(gradient):
    model = nn.Linear(3, 1, bias=False)
    nn.init.constant_(model.weight, 0.0 if gradient else 2.0)
    model.weight.grad = torch.full_like(model.weight, gradient)
    before = model.weight.detach().clone()
    take_step(OPTIMIZERS["lamb"](model, 0.0), rate=0.01)
    assert (before - model.weight).tolist()[0] == pytest.approx([0.01 * gradient * 0.1 / math.sqrt(0.001)] * 3)


def test_decay_spares_biases_and_norms():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Embedding(4, 3))
    decayed, spared = parameter_groups(model, DECAY)
    assert decayed["weight_decay"] == DECAY and [weight.shape for weight in decayed["params"]] == [(3, 3), (4, 3)]
    assert spared["weight_decay"] == 0 and len(spared["params"]) == 3


@pytest.mark.bits
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_goes_on_bit_for_bit(name, tmp_path):
    def run(model, optimizer, steps):
        for step in steps:
            model.set_gradients(step)
            take_step(optimizer, 0.002)

    whole, begun, continued = (Weights(torch.float32) for _ in range(3))
    run(whole, OPTIMIZERS[name](whole, DECAY), range(10))
    optimizer = OPTIMIZERS[name](begun, DECAY)
    run(begun, optimizer, range(4))
    save_tensors(tmp_path / "checkpoint.safetensors", begun, optimizer)
    optimizer = OPTIMIZERS[name](continued, DECAY)
    load_tensors(tmp_path / "checkpoint.safetensors", continued, optimizer)
    run(continued, optimizer, range(4, 10))
    for key, weight in whole.named_parameters():
        assert torch.equal(weight, dict(continued.named_parameters())[key]), key
