"""Training beside another encoder's vectors.

Gradients by finite differences, rows by hand, the tool from end to end.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import changed_by_flags, make_bert, without_files
from safetensors.numpy import load_file

from drtools.methods.spar.joint import Beside, JointModel
from drtools.models.compute import Compute
from drtools.models.loader import load_encoder


@pytest.fixture
def other(toy, tmp_path_factory, drtools):
    """Vectors of both sides in the name of an encoder of 16 dimensions.

    The numbers are random, as a toy encoder's hardly differ.
    """
    model = make_bert(tmp_path_factory.mktemp("other") / "bert", 3, 16)
    for side, path in (("documents", toy.corpus), ("queries", toy.queries)):
        assert (
            drtools(
                "encode",
                "--model",
                model,
                "--pooling",
                "cls",
                f"--{side}",
                path,
                "--precision",
                "fp32",
                "--dtype",
                "float32",
                "-o",
                toy.folder / f"other-{side}",
            ).status
            == 0
        )
        without_files(toy.folder / f"other-{side}")
        np.save(
            toy.folder / f"other-{side}" / "vectors.npy",
            np.random.default_rng(len(side)).normal(size=(60 if side == "documents" else 20, 16)).astype(np.float32),
        )
    toy.beside = [
        "--beside-documents",
        toy.folder / "other-documents",
        "--beside-queries",
        toy.folder / "other-queries",
    ]
    return toy


def test_vectors_are_looked_up_by_id(other):
    beside = Beside(str(other.folder / "other-documents"), str(other.folder / "other-queries"))
    documents = np.load(other.folder / "other-documents" / "vectors.npy")
    np.testing.assert_array_equal(beside("document", ["d7", "d3", "d7"]), documents[[7, 3, 7]])
    np.testing.assert_array_equal(
        beside("query", ["q19"]), np.load(other.folder / "other-queries" / "vectors.npy")[[19]]
    )
    with pytest.raises(Exception, match="no vector of query 'q99'"):
        beside("query", ["q1", "q99"])
    with pytest.raises(Exception, match="not vectors of queries by the encoder"):
        Beside(str(other.folder / "other-documents"), str(other.folder / "other-documents"))


def test_gradients_of_mu_and_of_the_encoder_are_those_of_the_whole_loss(other, encoder_folder):
    from drtools.formats.corpus_store import open_store
    from drtools.methods.contrastive import contrastive_loss
    from drtools.training.distributed import World
    from drtools.training.examples import usable_examples
    from drtools.training.gradients import Gradients
    from drtools.training.pairs import PairBatches
    from drtools.training.sampling import ExampleSource

    store = open_store(other.corpus)
    beside = Beside(str(other.folder / "other-documents"), str(other.folder / "other-queries"))
    model = JointModel(load_encoder(encoder_folder, dropout=0.0), beside.dimension, 0.7)
    batch = PairBatches(
        [ExampleSource(usable_examples(other.examples, other.queries, store), store)],
        model,
        batch_queries=6,
        negatives=1,
        seed=1,
        beside=beside,
    )(0)
    loss_of = contrastive_loss(2.0)
    for caching in (False, True):
        model.zero_grad()
        loss, _ = Gradients(model, Compute("cpu", "fp32", 64), World(), caching, parallel=False).of(batch, loss_of, 1)
        found = {
            name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
        }
        model.zero_grad()
        inputs = {
            side: [
                torch.from_numpy(part) if isinstance(part, np.ndarray) else part
                for part in tokens.inputs(np.arange(len(tokens.lengths)))
            ]
            for side, tokens in batch.tokens.items()
        }
        one, two = (model.encoder(*inputs[side][:3]) for side in ("query", "document"))
        scores = 2.0 * (
            one @ two.T + 0.7 * torch.exp(model.logarithm.value) * (inputs["query"][3] @ inputs["document"][3].T)
        )
        kept = scores.masked_fill(torch.from_numpy(batch.relevant) & ~torch.eye(6, 12, dtype=torch.bool), -torch.inf)
        expected = -(kept.log_softmax(1).diagonal()).mean()
        expected.backward()
        assert loss == pytest.approx(expected.item(), abs=1e-5)
        assert found["logarithm.value"].abs().item() > 0.001
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                np.testing.assert_allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


@changed_by_flags
def command(toy, encoder_folder, out, *more):
    return [
        "train-contrastive",
        "--model",
        encoder_folder,
        *toy.training,
        *toy.beside,
        "--batch-queries",
        8,
        "--learning-rate",
        1e-3,
        "--precision",
        "fp32",
        "--threads",
        1,
        "-o",
        out,
        *more,
    ]


@pytest.mark.slow
def test_dev_measures_both_and_the_folder_holds_the_encoder_alone(other, encoder_folder, drtools):
    out = other.folder / "joint"
    done = drtools(
        *command(
            other,
            encoder_folder,
            out,
            "--mu",
            0.5,
            "--steps",
            60,
            "--evaluate-every-steps",
            20,
            "--dev-qrels",
            other.qrels,
            "--dev-documents",
            0,
        )
    )
    assert done.status == 0, done.err
    made = json.loads((out / "manifest.json").read_text())
    assert made["mu"] > 0 and made["mu"] != 0.5, made["evaluations"]
    assert load_file(out / "model.safetensors").keys() == load_file(Path(encoder_folder) / "model.safetensors").keys()
    assert (
        drtools(
            "encode",
            "--model",
            out,
            "--corpus",
            other.corpus,
            "--precision",
            "fp32",
            "--dtype",
            "float32",
            "-o",
            other.folder / "v",
        ).status
        == 0
    )
    assert (
        drtools(
            "concat-spar",
            other.folder / "v",
            other.folder / "other-documents",
            "--mu",
            made["mu"],
            "-o",
            other.folder / "joined",
        ).status
        == 0
    )
    assert (
        drtools(
            "encode",
            "--model",
            out,
            "--queries",
            other.queries,
            "--precision",
            "fp32",
            "--dtype",
            "float32",
            "-o",
            other.folder / "q",
        ).status
        == 0
    )
    assert (
        drtools(
            "concat-spar",
            other.folder / "q",
            other.folder / "other-queries",
            "--mu",
            made["mu"],
            "-o",
            other.folder / "joined-q",
        ).status
        == 0
    )
    assert (
        drtools(
            "search",
            "--vectors",
            other.folder / "joined",
            "--query-vectors",
            other.folder / "joined-q",
            "-o",
            other.folder / "run",
        ).status
        == 0
    )
    value = json.loads(drtools("eval", "--qrels", other.qrels, other.folder / "run", "--json").out)["runs"][0][
        "measures"
    ]["nDCG@10"]
    assert value == pytest.approx(made["best"]["value"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.bits
def test_a_stopped_training_has_the_same_weights_and_mu(other, encoder_folder, drtools, monkeypatch):
    from drtools.training.loop import TrainingRun

    words = ["--steps", 6, "--save-every-minutes", 0]
    assert drtools(*command(other, encoder_folder, other.folder / "whole", *words)).status == 0
    real = TrainingRun.take_step

    def stopped(run, *arguments):
        if run.step == 4:
            raise KeyboardInterrupt
        real(run, *arguments)

    monkeypatch.setattr(TrainingRun, "take_step", stopped)
    assert drtools(*command(other, encoder_folder, other.folder / "parts", *words)).status == 130
    monkeypatch.setattr(TrainingRun, "take_step", real)
    assert drtools(*command(other, encoder_folder, other.folder / "parts", *words)).status == 0
    whole, parts = (
        json.loads((other.folder / name / "manifest.json").read_text())["mu"] for name in ("whole", "parts")
    )
    assert whole == parts
    assert (other.folder / "whole/model.safetensors").read_bytes() == (
        other.folder / "parts/model.safetensors"
    ).read_bytes()


def test_both_folders_are_needed(other, encoder_folder, drtools):
    done = drtools(
        *[
            word
            for word in command(other, encoder_folder, other.folder / "x")
            if word != "--beside-queries" and word != other.folder / "other-queries"
        ]
    )
    assert done.status == 2 and "--beside-queries VECTORS are used together" in done.err
    for bad in ("nan", "inf", "0", "-1"):
        done = drtools(*command(other, encoder_folder, other.folder / "x", f"--mu={bad}"))
        assert done.status == 2 and "must be above 0" in done.err
    other.beside = []
    done = drtools(*command(other, encoder_folder, other.folder / "x", "--mu", 2))
    assert done.status == 2 and "--mu needs both" in done.err


@pytest.mark.slow
def test_processes_equal_one(other, encoder_folder, drtools, several):
    words = ["--steps", 3, "--dropout", 0, "--batch-queries", 7]
    assert drtools(*command(other, encoder_folder, other.folder / "one", *words)).status == 0
    several(2, command(other, encoder_folder, other.folder / "two", *words))
    one, two = (json.loads((other.folder / name / "manifest.json").read_text())["mu"] for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-4) and abs(one - 1) > 1e-3


def test_mu_learns_at_its_own_rate_and_what_clips_the_encoder_does_not_know_it(other, encoder_folder):
    """Gradients by hand: whatever mu's is, the encoder's are scaled by their own norm alone, and mu's stays."""
    from types import SimpleNamespace

    from drtools.training.distributed import World
    from drtools.training.loop import TrainingRun

    model = JointModel(load_encoder(encoder_folder, dropout=0.0), 16, 0.5)
    parameters = list(model.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    work = SimpleNamespace(state={}, path=other.folder, working=other.folder)
    flags = SimpleNamespace(
        optimizer="adamw", weight_decay=0.01, gradient_caching=False, step_memory=None, clip=1.0, tensorboard=False
    )
    plan = SimpleNamespace(count=lambda step: step)
    run = TrainingRun(model, plan, flags, work, Compute("cpu", "fp32", 64), World())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 0.25)
    model.logarithm.value.grad.fill_(300.0)
    encoders = [parameter for parameter in parameters if parameter is not model.logarithm.value]
    norm = sum(parameter.numel() for parameter in encoders) ** 0.5 * 0.25
    assert run._clip() == pytest.approx(norm, rel=1e-4)
    assert (
        encoders[0].grad.flatten()[0].item() == pytest.approx(0.25 / norm, rel=1e-4)
        and model.logarithm.value.grad.item() == 300
    )
    for group in run.optimizer.param_groups:
        group["lr"] = 1e-5 * group["rate"]
    run.optimizer.step()
    assert model.mu.item() == pytest.approx(0.5 * np.exp(-1e-3), rel=1e-5), (
        "AdamW's first step is the rate itself, whatever the gradient"
    )
    assert (
        max(
            float((parameter.detach() - old).abs().max())
            for parameter, old in zip(parameters, before, strict=True)
            if parameter is not model.logarithm.value
        )
        < 1.5e-5
    )
