"""The projection head: where it stands, how it begins, and that others load it."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.training.student import add_projection

TEXTS = ["fox runs", "the otter swims in the river and hunts salmon", "hammer"]


def vectors(encoder):
    return encode_texts(encoder, TEXTS, "document", Compute("cpu", "fp32", 64))[0]


@pytest.mark.parametrize("dimension,expected", [(None, 32), (12, 12)])
def test_a_projection_is_linear_then_layer_norm(bert, tmp_path, dimension, expected):
    encoder = load_encoder(bert, pooling="cls")
    pooled = torch.from_numpy(vectors(encoder))
    assert add_projection(encoder, dimension) and encoder.dimension == expected
    linear, norm = encoder.head[0], encoder.head[2]
    assert linear.bias.abs().max() == 0 and norm.weight.min() == norm.weight.max() == 1 and norm.bias.abs().max() == 0
    assert abs(linear.weight.std() - 0.02) < 0.003
    with torch.no_grad():
        linear.bias.normal_()
        norm.weight.normal_(1, 0.1)
    product = pooled @ linear.weight.T + linear.bias
    centred = product - product.mean(dim=1, keepdim=True)
    by_hand = centred / (centred.square().mean(dim=1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
    mine = vectors(encoder)
    np.testing.assert_allclose(mine, by_hand.detach(), atol=1e-5)
    save_encoder(encoder, tmp_path / "saved")
    np.testing.assert_allclose(vectors(load_encoder(str(tmp_path / "saved"))), mine, atol=1e-6)
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS), mine, atol=1e-5
    )


def test_a_projection_stands_ahead_of_the_normalization(encoder_folder, tmp_path):
    encoder = load_encoder(encoder_folder)
    assert add_projection(encoder, 8)
    mine = vectors(encoder)
    np.testing.assert_allclose(np.linalg.norm(mine, axis=1), 1, atol=1e-6)
    assert [layer["kind"] for layer in encoder.settings.head] == [
        "dense",
        "layer-norm",
        "normalize",
    ] and encoder.settings.normalized
    saved = save_encoder(encoder, tmp_path / "saved")
    assert saved == load_encoder(str(tmp_path / "saved")).side_fingerprints()
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS), mine, atol=1e-5
    )


def test_a_head_that_is_there_is_kept(bert):
    encoder = load_encoder(bert, pooling="cls")
    assert add_projection(encoder, 12)
    before = vectors(encoder)
    assert not add_projection(encoder, 7)
    np.testing.assert_array_equal(vectors(encoder), before)


def test_the_seed_decides_the_weights(bert):
    encoders = [load_encoder(bert, pooling="cls") for _ in range(3)]
    for encoder, seed in zip(encoders, (1, 1, 2), strict=True):
        add_projection(encoder, seed=seed)
    first, again, other = (encoder.head[0].weight for encoder in encoders)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("asked", ["mean+cls", "cls+mean", "max+mean+cls+normalize"])
def test_several_poolings_behind_a_head_are_read_back_in_their_order(bert, tmp_path, asked):
    encoder = load_encoder(bert, pooling=asked)
    add_projection(encoder)
    save_encoder(encoder, tmp_path / "saved")
    again = load_encoder(str(tmp_path / "saved"))
    assert again.settings.pooling == encoder.settings.pooling
    texts = ["fox hound", "otter heron badger salmon"]
    before, after = (
        encode_texts(each.eval(), texts, "document", Compute("cpu", "fp32", 64))[0] for each in (encoder, again)
    )
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_pooling_said_twice_is_refused(bert):
    with pytest.raises(InputError, match="a pooling was given twice"):
        load_encoder(bert, pooling="cls+cls")
