"""The masked-language head of each family beside transformers' own; a new head.

What an adaptation leaves for the next.
"""

import numpy as np
import pytest
import torch

from drtools.errors import InputError
from drtools.methods.ddr.masking import Masker
from drtools.models.loader import load_encoder
from drtools.models.masked import IGNORED, MaskedModel, load_head, new_head, save_head
from tests.models.tiny_bodies import make_body, make_tokenizer


@pytest.fixture(params=["bert", "roberta", "distilbert", "modernbert"])
def checkpoint(request, bert, tmp_path):
    from transformers import AutoModelForMaskedLM

    tokenizer = make_tokenizer(bert, request.param)
    torch.manual_seed(3)
    model = AutoModelForMaskedLM.from_config(make_body(request.param, len(tokenizer)).config).eval()
    for name, parameter in model.named_parameters():
        if "bias" in name or "norm" in name.lower():
            torch.nn.init.normal_(parameter, 1, 0.3)  # so that none of them is what it would be by chance
    model.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    return model, tmp_path / "checkpoint"


def some_batch():
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    labels = torch.full_like(ids, IGNORED)
    labels[0, 2], labels[0, 5], labels[1, 3] = 7, 9, 11
    return ids, mask, labels


def test_the_checkpoints_own_head_gives_transformers_loss(checkpoint):
    theirs, folder = checkpoint
    encoder = load_encoder(str(folder), pooling="mean")
    model = MaskedModel(encoder, load_head(encoder)).eval()
    ids, mask, labels = some_batch()
    with torch.no_grad():
        rows = model(ids, mask, labels)
        logits = theirs(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    expected = [-(logits[0, 2, 7] + logits[0, 5, 9]).item(), -logits[1, 3, 11].item(), 0.0]
    assert rows[:, 0].tolist() == pytest.approx(expected, abs=1e-4) and rows[:, 1].tolist() == [2, 1, 0]


def test_what_is_left_for_the_next_adaptation_is_the_same_head(checkpoint):
    encoder = load_encoder(str(checkpoint[1]), pooling="mean")
    head = load_head(encoder)
    with torch.no_grad():
        head.bias += 1
    save_head(head, checkpoint[1])
    again = load_head(encoder)
    assert again.activation == head.activation and again.state_dict().keys() == head.state_dict().keys()
    assert all(torch.equal(value, head.state_dict()[name]) for name, value in again.state_dict().items())
    states, embeddings = torch.randn(4, 32), encoder.body.get_input_embeddings().weight
    assert torch.equal(head(states, embeddings), again(states, embeddings))


def test_old_names_of_layernorm_and_a_decoder_of_its_own(bert, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(1)
    theirs = BertForMaskedLM(
        BertConfig(
            vocab_size=127,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            tie_word_embeddings=False,
        )
    ).eval()
    theirs.save_pretrained(tmp_path)
    make_tokenizer(bert, "bert").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for name, value in tensors.items()
        },
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    encoder = load_encoder(str(tmp_path), pooling="cls")
    head = load_head(encoder)
    assert torch.equal(head.decoder, theirs.cls.predictions.decoder.weight) and not torch.equal(
        head.decoder, encoder.body.get_input_embeddings().weight
    )
    states = torch.randn(3, 32)
    torch.testing.assert_close(head(states, encoder.body.get_input_embeddings().weight), theirs.cls(states))


def test_a_body_without_a_head_gets_one_that_learns_alone(encoder_folder):
    encoder = load_encoder(encoder_folder)
    assert load_head(encoder) is None
    model = MaskedModel(encoder, new_head(encoder, 1))
    model(*some_batch(), body_learns=False)[:, 0].sum().backward()
    assert all(parameter.grad is None for parameter in encoder.body.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    alone = {name: parameter.grad.clone() for name, parameter in model.head.named_parameters()}
    model.zero_grad()
    model(*some_batch())[:, 0].sum().backward()
    for name, parameter in model.head.named_parameters():
        torch.testing.assert_close(parameter.grad, alone[name])
    assert encoder.body.get_input_embeddings().weight.grad.abs().sum() > 0
    assert torch.equal(new_head(encoder, 1).dense.weight, model.head.dense.weight)


def test_a_new_head_begins_with_the_shares_of_tokens(encoder_folder):
    encoder = load_encoder(encoder_folder)
    head, size = new_head(encoder, 1), len(encoder.body.get_input_embeddings().weight)
    shares = np.random.default_rng(1).dirichlet(np.ones(size - 2))
    head.begin_with(shares)
    torch.nn.init.zeros_(head.norm.weight)  # so that states say nothing
    found = (
        head(torch.randn(3, encoder.body.config.hidden_size), encoder.body.get_input_embeddings().weight)
        .softmax(-1)
        .detach()
        .numpy()
    )
    known = found[:, : size - 2]
    np.testing.assert_allclose(known / known.sum(axis=1, keepdims=True), np.stack([shares] * 3), rtol=1e-4)
    assert (found[:, size - 2 :] <= known.min() * 1.0001).all(), "rows of the embeddings that no token has"


def test_a_decoder_has_no_mask_token(families):
    with pytest.raises(InputError, match="no mask token"):
        Masker(load_encoder(families["llama"], "last"), 20, 0.15)
