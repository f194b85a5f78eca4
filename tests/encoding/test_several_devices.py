"""encode and teacher-score on several devices: the processor twice, for which there are copies as for GPUs."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from drtools.cli.flags.encoder import PieceFlags
from drtools.encoding import loop
from drtools.errors import InputError, WorldError
from drtools.models import compute
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.device import choose_devices
from drtools.models.loader import load_encoder
from drtools.models.pair_tokens import tokenize_pairs
from drtools.models.pieces import layout_of, tokenize_pieces
from drtools.models.replicas import Copies
from drtools.models.spans import Spans
from drtools.teachers import scoring
from drtools.teachers.score_cache import ScoreCache


@pytest.fixture
def twice(monkeypatch):
    """Let `--device cuda:all` be the processor twice.

    Give the models that worked, of which the first two batches have one each.
    """
    worked, both = [], threading.Barrier(2, timeout=60)
    plain_devices, plain_batch = compute.choose_devices, loop._encode_batch

    def watched(model, *more):
        worked.append(model)
        if more[2].copies.devices and len(worked) <= 2:
            both.wait()
        plain_batch(model, *more)

    monkeypatch.setattr(
        compute, "choose_devices", lambda name: ["cpu", "cpu"] if name == "cuda:all" else plain_devices(name)
    )
    monkeypatch.setattr(loop, "_encode_batch", watched)
    return worked


def both_ways(drtools, twice, tmp_path, *words):
    """Return what a command writes on one device and on two."""
    made = []
    for number, device in enumerate(("cuda:all", "cpu")):
        out = tmp_path / str(number)
        done = drtools(*words, "--threads", 1, "--precision", "fp32", "--device", device, "-o", out)
        assert done.status == 0, done.err
        made.append(out)
        if not number:
            assert len({id(model) for model in twice}) == 2
    return made


@pytest.mark.bits
@pytest.mark.parametrize(
    "pieces",
    [[], ["--pieces", "--pooling", "cls", "--passage-tokens", 16, "--sentence-tokens", 8, "--least-piece-tokens", 2]],
    ids=["texts", "pieces"],
)
def test_vectors_are_those_of_one(toy, encoder_folder, drtools, twice, tmp_path, pieces):
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--batch-tokens", 64, *pieces]
    several, one = both_ways(drtools, twice, tmp_path, *words)
    for name in ("vectors.npy", "texts.npy", *(["pieces.npy", "piece_starts.npy"] if pieces else [])):
        assert np.load(several / name).tobytes() == np.load(one / name).tobytes(), name
    assert (several / "ids.txt").read_text() == (one / "ids.txt").read_text()


@pytest.mark.bits
def test_scores_are_those_of_one(toy, rankers, drtools, twice, tmp_path, monkeypatch):
    words = [
        "teacher-score",
        "--teacher",
        rankers["bert"],
        "--examples",
        toy.examples,
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--batch-tokens",
        64,
    ]
    caches = iter(("first", "second"))
    monkeypatch.setattr(
        scoring, "ScoreCache", lambda key, *teacher: ScoreCache(f"{key}-{next(caches)}", *teacher)
    )  # the second knows nothing of the first
    several, one = both_ways(drtools, twice, tmp_path, *words)
    assert Path(several).read_text() == Path(one).read_text()


@pytest.mark.bits
def test_a_copy_has_weights_of_its_own(rankers, encoder_folder, bert):
    ranker, encoder = load_cross_encoder(rankers["bert"]), load_encoder(bert, pooling="cls")
    pairs, texts = (
        tokenize_pairs(ranker, [("fox", "fox runs"), ("otter", "an otter swims")]),
        encoder.tokenize(["fox", "otter hill"], "document"),
    )
    spans = Spans(encoder, 1, 1)
    pieces = tokenize_pieces(encoder, ["fox runs"], layout_of(encoder, PieceFlags(16, 8, 2)))
    for model, inputs in (
        (ranker, pairs.inputs(np.arange(2))),
        (encoder, texts.inputs(np.arange(2))),
        (spans, pieces.inputs(np.arange(1))),
    ):
        tensors = [torch.as_tensor(part) for part in inputs]
        (copied,) = Copies(["cpu"]).of(model)
        with torch.inference_mode():
            before = model(*tensors)
            assert torch.equal(copied(*tensors), before) and copied.tokenizer is model.tokenizer
            for weight in (copied.encoder if model is spans else copied).parameters():
                weight.zero_()
            assert torch.equal(model(*tensors), before) and not copied(*tensors).any()


def test_a_lexical_encoder_takes_one(toy, drtools, twice, tmp_path):
    assert (
        drtools(
            "make-lexical",
            "--corpus",
            toy.corpus,
            "--encoder",
            "projection",
            "--dimension",
            16,
            "-o",
            tmp_path / "lexical",
        ).status
        == 0
    )
    done = drtools(
        "encode",
        "--model",
        tmp_path / "lexical",
        "--corpus",
        toy.corpus,
        "--device",
        "cuda:all",
        "-o",
        tmp_path / "vectors",
    )
    assert done.status == 2 and "a lexical encoder computes on one device" in done.err, done.err


def test_a_plan_counts_all_of_them(toy, encoder_folder, drtools, twice, tmp_path):
    done = drtools(
        "encode",
        "--model",
        encoder_folder,
        "--corpus",
        toy.corpus,
        "--threads",
        2,
        "--precision",
        "fp32",
        "--device",
        "cuda:all",
        "--dry-run",
        "-o",
        tmp_path / "vectors",
    )
    assert done.status == 0 and "on cpu cpu in fp32 (from the first 60 on one)" in done.err, done.err


def test_an_error_on_one_ends_the_work(toy, encoder_folder, drtools, twice, monkeypatch, tmp_path):
    plain = loop._encode_batch

    def failing(model, *more):
        plain(model, *more)
        if len(twice) == 5:
            raise InputError("broken")

    monkeypatch.setattr(loop, "_encode_batch", failing)
    done = drtools(
        "encode",
        "--model",
        encoder_folder,
        "--corpus",
        toy.corpus,
        "--batch-tokens",
        64,
        "--threads",
        1,
        "--device",
        "cuda:all",
        "-o",
        tmp_path / "vectors",
    )
    assert done.status == 2 and done.err.endswith("broken\n") and not (tmp_path / "vectors").exists()


def test_the_other_tools_take_one(toy, encoder_folder, drtools, twice, tmp_path):
    done = drtools(
        "train-contrastive",
        "--model",
        encoder_folder,
        *toy.training,
        "--device",
        "cuda:all",
        "--steps",
        1,
        "-o",
        tmp_path / "model",
    )
    assert (
        done.status == 2
        and "--device cuda:all: only encode, teacher-score and FAISS indexes use several GPUs; for training, use "
        "torchrun; pass one device"
        in done.err
    ), done.err


def test_which_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert choose_devices("cuda:all") == ["cuda:0", "cuda:1", "cuda:2"]
    assert choose_devices("cuda:2,cuda:0") == choose_devices("cuda:2, cuda:0") == ["cuda:2", "cuda:0"]
    assert (
        choose_devices("auto") == ["cuda"]
        and choose_devices("cpu") == ["cpu"]
        and choose_devices("cuda:1") == ["cuda:1"]
    )
    for wrong, words in {
        "cuda:0,cuda:0": "several devices must be different GPUs",
        "cpu,cuda:0": "several devices must be different GPUs",
        "cuda,cuda:1": "several devices must be different GPUs",
        "cuda:3": "GPUs are cuda:0 to cuda:2",
        "cuda:0,cuda:7": "GPUs are cuda:0 to cuda:2",
        "cuda:x": "GPUs are cuda:0 to cuda:2",
        "gpu": "expected auto",
    }.items():
        with pytest.raises(InputError, match=words):
            choose_devices(wrong)


def test_all_of_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WorldError, match="device cuda:all: this machine has no GPU"):
        choose_devices("cuda:all")
