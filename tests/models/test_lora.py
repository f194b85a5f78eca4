"""LoRA starts where the body stands, trains nothing else, and merges into plain weights with the same vectors."""

import numpy as np
import pytest
import torch

from drtools.encoding.loop import encode_texts
from drtools.models.compute import Compute
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.models.lora import add_lora, has_lora, merge_lora

TEXTS = ["fox runs", "the otter swims in the river and hunts salmon", "hammer"]
# linear layers of a layer of each family, as (inputs + outputs), for a body of 32 dimensions and 64 inner ones
LAYERS = {
    "bert": [64] * 4 + [96] * 2,
    "roberta": [64] * 4 + [96] * 2,
    "distilbert": [64] * 4 + [96] * 2,
    "modernbert": [128, 64, 160, 96],  # Wqkv, Wo, Wi (gate and values at once), Wo
    "qwen2": [64, 48, 48, 64, 96, 96, 96],
    "qwen3": [64, 48, 48, 64, 96, 96, 96],
    "llama": [64, 48, 48, 64, 96, 96, 96],
}


def vectors(encoder: Encoder) -> np.ndarray:
    return encode_texts(encoder, TEXTS, "document", Compute("cpu", "fp32", 64))[0]


@pytest.mark.parametrize("family", LAYERS)
def test_from_the_start_to_the_saved_folder(families, family, tmp_path):
    encoder = load_encoder(families[family], pooling="mean")
    names = set(encoder.body.state_dict())
    before = vectors(encoder)
    add_lora(encoder, rank=3)
    np.testing.assert_array_equal(vectors(encoder), before)
    trained = {name: weight for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in trained)
    assert sum(weight.numel() for weight in trained.values()) == 2 * 3 * sum(LAYERS[family])
    ids = torch.tensor([[7, 8, 9]])
    encoder(ids, torch.ones_like(ids)).square().sum().backward()
    assert all(weight.grad is not None for weight in trained.values()), "every trained matrix gets a gradient"
    with torch.no_grad():
        for name, weight in trained.items():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    adapted = vectors(encoder)
    assert np.abs(adapted - before).max() > 0.01
    merge_lora(encoder)
    assert not has_lora(encoder) and set(encoder.body.state_dict()) == names
    np.testing.assert_allclose(vectors(encoder), adapted, atol=1e-5)
    save_encoder(encoder, tmp_path / "saved")
    np.testing.assert_allclose(vectors(load_encoder(str(tmp_path / "saved"))), adapted, atol=1e-5)


def test_the_update_is_alpha_over_rank_times_b_a(families):
    for alpha, scale in ((None, 1.0), (8, 2.0)):
        encoder = load_encoder(families["bert"], pooling="mean")
        layer = encoder.body.encoder.layer[0].attention.self.query
        before = layer.weight.detach().clone()
        add_lora(encoder, rank=4, alpha=alpha)
        first, second = torch.randn(4, 32), torch.randn(32, 4)
        adapted = encoder.body.encoder.layer[0].attention.self.query
        adapted.lora_A["default"].weight.data, adapted.lora_B["default"].weight.data = first, second
        merge_lora(encoder)
        torch.testing.assert_close(
            encoder.body.encoder.layer[0].attention.self.query.weight.detach(), before + scale * second @ first
        )


def test_the_random_half_follows_the_seed_and_disturbs_no_other_randomness(families):
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(drawn))
        expected = torch.rand(3)
        torch.manual_seed(len(drawn))
        encoder = load_encoder(families["bert"], pooling="mean")
        add_lora(encoder, rank=4, seed=seed)
        drawn.append(next(weight for name, weight in encoder.named_parameters() if "lora_A" in name))
        torch.testing.assert_close(torch.rand(3), expected)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_an_encoder_with_unmerged_lora_is_not_saved(families, tmp_path):
    encoder = load_encoder(families["bert"], pooling="mean")
    add_lora(encoder, rank=4)
    with pytest.raises(AssertionError):
        save_encoder(encoder, tmp_path / "saved")
