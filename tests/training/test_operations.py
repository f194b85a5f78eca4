"""Arithmetic counted by hand."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from drtools.training.operations import matmul_rate, operations


def test_a_toy_bert_by_hand(bert):
    body = AutoModel.from_pretrained(bert)  # 2 layers of 32 dimensions, feed-forward 64, with a pooler
    weights = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    one_text = 2 * weights * 5 + 2 * 4 * 32 * 5 * 5
    assert operations(body, np.array([5])) == 3 * one_text
    another = 2 * weights * 7 + 2 * 4 * 32 * 7 * 7
    assert operations(body, np.array([5, 7, 7], np.int32)) == 3 * (one_text + 2 * another)
    assert operations(body, np.array([5, 7, 7], np.int32), backward=False) == one_text + 2 * another
    for weight in body.parameters():
        weight.requires_grad = False
    attention = 2 * 4 * 32 * 5 * 5
    assert operations(body, np.array([5])) == 2 * (one_text - attention) + 3 * attention


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_torch_counts_the_same(family, bert):
    if family == "bert":
        body = AutoModel.from_pretrained(bert, add_pooling_layer=False, attn_implementation="eager")
    else:
        config = DistilBertConfig(
            vocab_size=50, dim=32, hidden_dim=48, n_layers=3, n_heads=4, max_position_embeddings=16
        )
        config._attn_implementation = "eager"
        body = DistilBertModel(config)
    with FlopCounterMode(display=False) as counter:
        body(input_ids=torch.ones(4, 9, dtype=torch.long)).last_hidden_state.sum().backward()
    assert operations(body, np.full(4, 9)) == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_the_rate_is_that_of_the_product(monkeypatch):
    seconds = iter([9.0, 1e-4, 1.0, 1.0, 1.0, 9.0, 8.0, 1.0, 2.0, 3.0, 4.0, 50.0])
    monkeypatch.setattr("drtools.training.operations._seconds_of_product", lambda left, right: next(seconds))
    before = torch.get_rng_state()
    assert matmul_rate.__wrapped__("cpu", torch.bfloat16) == 2 * 2048**3 / 3.0
    seconds = iter(
        [9.0, 1e-2, 1.0, 1.0, 1.0, 9.0, 8.0, 1.0, 2.0, 3.0, 4.0, 50.0]
    )  # so slow that a large product would take 40 seconds
    assert matmul_rate.__wrapped__("cpu", torch.bfloat16) == 2 * 128**3 / 3.0
    assert torch.equal(torch.get_rng_state(), before), "only the first process measures, and all must draw the same"


def test_a_gpu_is_measured_by_a_large_product_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "drtools.training.operations._rates_of_products",
        lambda device, dtype, size, count: asked.append(size) or [1.0, 2.0, 7.0, 5.0, 6.0, 9.0, 8.0],
    )
    assert matmul_rate.__wrapped__("cuda:1", torch.bfloat16) == 7.0
    assert asked == [4096]
