"""The gradient of a batch, in chunks, cached, by core, against one plain forward and backward of the whole batch."""

import numpy as np
import pytest
import torch

from drtools.methods.contrastive import contrastive_loss
from drtools.methods.star import star_loss
from drtools.models.compute import Compute
from drtools.models.cpu.attention import use_sliced_attention
from drtools.models.cpu.dropout import use_own_dropout
from drtools.models.loader import load_encoder
from drtools.training.distributed import World
from drtools.training.gradients import Gradients
from drtools.training.pairs import PairBatch

QUERIES = ["fox runs", "otter swims in the river", "hammer", "wrench holds and turns"]
DOCUMENTS = [
    "the fox runs over the hill",
    "river otter",
    "hammer bends anvil " * 5,
    "wrench",
    "lathe cuts",
    "marsh heron sleeps " * 9,
    "vise",
]


def batch_of(model):
    tokens = {"query": model.tokenize(QUERIES, "query"), "document": model.tokenize(DOCUMENTS, "document")}
    relevant = np.zeros((4, 7), bool)
    relevant[range(4), range(4)] = True
    return PairBatch(tokens, {"query": [4], "document": [7]}, relevant, np.array([0, 1, 2, 3, 0, 1, 2]))


def model_of(folder, dropout):
    model = load_encoder(folder, dropout=dropout)
    use_own_dropout(model.body)
    use_sliced_attention(model.body)
    return model.train()


def gradients(model, loss, *, batch_tokens=32, caching=False, cores=1, precision="fp32"):
    threads = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        computed = Gradients(model, Compute("cpu", precision, batch_tokens), World(), caching, cores > 1)
        value, _ = computed.of(batch_of(model), loss, "seed", 5)
    finally:
        torch.set_num_threads(threads)
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return value, found


@pytest.mark.parametrize(
    "loss", [contrastive_loss(20.0), star_loss(20.0), star_loss(20.0, alpha=0.1)], ids=["contrastive", "star", "alpha"]
)
@pytest.mark.parametrize(
    "settings", [{}, {"caching": True}, {"cores": 2}, {"cores": 2, "caching": True}, {"batch_tokens": 10**6}], ids=str
)
def test_chunks_give_the_gradient_of_the_whole(encoder_folder, loss, settings):
    model = model_of(encoder_folder, dropout=0)
    value, found = gradients(model, loss, **settings)
    batch = batch_of(model)
    vectors = []
    for side in ("query", "document"):
        ids, mask = (torch.from_numpy(part) for part in batch.tokens[side].padded(range(batch.counts[side][0])))
        vectors.append(model(ids, mask))
    expected, _ = loss(*vectors, batch)
    expected.backward()
    assert value == pytest.approx(expected.item(), abs=1e-5)
    whole = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found.keys() == whole.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, whole[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cores", [1, 2])
def test_caching_repeats_dropout_to_the_bit(encoder_folder, cores, precision):
    model = model_of(encoder_folder, dropout=0.3)
    kept_value, kept = gradients(model, star_loss(20.0), cores=cores, precision=precision)
    cached_value, cached = gradients(model, star_loss(20.0), cores=cores, precision=precision, caching=True)
    assert kept_value == cached_value and kept.keys() == cached.keys()
    assert all(torch.equal(kept[name], cached[name]) for name in kept)
    without = gradients(model_of(encoder_folder, dropout=0), star_loss(20.0), cores=cores, precision=precision)[0]
    assert abs(without - kept_value) > 1e-3, "dropout changes the loss, so it was there"


def test_cores_repeat_each_other_to_the_bit(encoder_folder):
    model = model_of(encoder_folder, dropout=0.3)
    runs = [gradients(model, star_loss(20.0), cores=2) for _ in range(4)]
    assert all(value == runs[0][0] for value, _ in runs)
    assert all(torch.equal(found[name], runs[0][1][name]) for _, found in runs for name in found)
