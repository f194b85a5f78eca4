"""Training in float16 with a scaled loss, on the processor, against float32 and against steps taken by hand."""

import math
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
import torch

from drtools.errors import InputError
from drtools.methods.contrastive import contrastive_loss
from drtools.models.compute import Compute
from drtools.training.distributed import World
from drtools.training.gradients import Gradients
from drtools.training.loop import TrainingRun
from drtools.training.optimizers import OPTIMIZERS
from drtools.training.scaling import LEAST_FACTOR, Scaler
from tests.training.test_gradients import batch_of, model_of

FLOAT16 = Compute("cpu", "fp16", 64)


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))


def step(model, optimizer, scaler, gradient):
    """Take a step with this gradient of the unscaled loss; return its norm after unscaling."""
    model.weight.grad = torch.tensor([gradient]) * scaler.factor
    scaler.unscale(optimizer)
    norm = float(model.weight.grad.norm())
    scaler.step(optimizer, norm)
    assert model.weight.grad is None
    return norm


def test_scaled_gradients_are_those_of_float32(encoder_folder):
    found = {}
    for precision in ("fp32", "fp16"):
        model = model_of(encoder_folder, 0.0)
        computed = Gradients(model, Compute("cpu", precision, 64), World(), False, False)
        optimizer, scaler = OPTIMIZERS["adamw"](model, 0.0), Scaler(Compute("cpu", precision, 64))
        computed.scale = scaler.factor
        loss, _ = computed.of(batch_of(model), contrastive_loss(20.0), "seed", 5)
        scaler.unscale(optimizer)
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found[precision] = loss, torch.cat([gradient.flatten() for gradient in gradients])
    assert computed.scale == 2**16
    (loss, exact), (half_loss, half) = found["fp32"], found["fp16"]
    assert half_loss == pytest.approx(loss, rel=0.01) and half_loss != loss
    assert torch.nn.functional.cosine_similarity(exact, half, dim=0) > 0.999
    assert float((exact - half).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_that_overflow_are_skipped_and_counted(name):
    model, alone = Line(), Line()
    scaler, none = Scaler(FLOAT16), Scaler(Compute("cpu", "fp32", 64))
    optimizers = [OPTIMIZERS[name](each, 0.0) for each in (model, alone)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.1
    for gradient in ([0.5, 1.0], [math.inf, 1.0], [0.25, -1.0], [math.nan, 0.0], [1.0, 1.0]):
        norm = step(model, optimizers[0], scaler, gradient)
        if np.isfinite(gradient).all():
            assert norm == pytest.approx(float(np.linalg.norm(gradient)))
            step(alone, optimizers[1], none, gradient)
    assert torch.allclose(model.weight, alone.weight, atol=1e-6) and not torch.equal(model.weight, Line().weight)
    assert scaler.numbers() == {"loss_scale": 2.0**14, "skipped_steps": 2} and none.numbers() == {}


def test_a_restored_scaler_goes_on_as_before():
    scaler, again, model = Scaler(FLOAT16), Scaler(FLOAT16), Line()
    optimizer = OPTIMIZERS["adamw"](model, 0.0)
    for gradient in ([math.inf, 0.0], [1.0, 0.0], [1.0, 0.0]):
        step(model, optimizer, scaler, gradient)
    assert scaler.state() == {"factor": 2.0**15, "steady_steps": 2, "skipped": 1}
    again.restore(scaler.state())
    step(model, optimizer, again, [1.0, 0.0])
    assert again.state() == {"factor": 2.0**15, "steady_steps": 3, "skipped": 1}


def test_gradients_that_never_fit_end_the_training():
    scaler, model = Scaler(FLOAT16), Line()
    optimizer = OPTIMIZERS["adamw"](model, 0.0)
    with pytest.raises(InputError, match="overflow float16 at every scale"):
        for _ in range(100):
            step(model, optimizer, scaler, [math.inf, 0.0])
    assert scaler.factor < LEAST_FACTOR and scaler.skipped == 27


def test_a_training_that_stops_goes_on_with_the_same_factor_and_weights(encoder_folder, tmp_path):
    """Three steps at once, and three with a stop between; the second overflows, as at the start of real trainings."""

    def run_of(folder):
        folder.mkdir(exist_ok=True)
        state = folder / "state.json"
        saved = orjson.loads(state.read_bytes()) if state.exists() else {}
        work = SimpleNamespace(
            state=saved,
            path=folder,
            working=folder,
            save=lambda spans, **values: state.write_bytes(orjson.dumps(values)),
        )
        flags = SimpleNamespace(
            optimizer="adamw", weight_decay=0.01, gradient_caching=False, step_memory=None, clip=1.0, tensorboard=None,
            seed=1,
        )  # fmt: skip
        plan = SimpleNamespace(count=lambda step: step, rate=lambda step, seconds: 1e-3)
        return TrainingRun(model_of(encoder_folder, 0.1), plan, flags, work, FLOAT16, World())

    def take(run, steps):
        plain = contrastive_loss(20.0)
        for _ in range(steps):
            too_large = 1e6 if run.step == 1 else 1.0

            def loss(queries, documents, batch, factor=too_large):
                value, metrics = plain(queries, documents, batch)
                return value * factor, metrics

            run.take_step(batch_of(run.model), loss, 0.0)
        run.save()
        return run

    whole = take(run_of(tmp_path / "whole"), 3)
    take(run_of(tmp_path / "parts"), 2)
    parts = take(run_of(tmp_path / "parts"), 1)
    assert parts.scaler.state() == whole.scaler.state() == {"factor": 2.0**15, "steady_steps": 1, "skipped": 1}
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert parts.meter.latest["skipped_steps"] == 1 and math.isfinite(parts.meter.latest["gradient_norm"])
