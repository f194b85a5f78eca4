"""Every family of bodies: vectors as in sentence-transformers, in any batch, in bfloat16.

Decoders read to their last token.
"""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from drtools.encoding.loop import encode_texts
from drtools.models.compute import Compute, place
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from tests.models.tiny_bodies import DECODERS, FAMILIES

TEXTS = [
    "fox runs",
    "the otter swims in the river and hunts salmon",
    "hammer",
    "a wrench holds and turns a vise near the lake x9",
]
EACH_ALONE, TOGETHER = Compute("cpu", "fp32", 1), Compute("cpu", "fp32", 10_000)


def vectors(encoder, computing=TOGETHER, side="document"):
    return encode_texts(encoder, TEXTS, side, computing)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_gives_the_same_vectors_in_sentence_transformers(families, family, tmp_path):
    encoder = load_encoder(families[family], pooling="last" if family in DECODERS else "mean")
    encoder.settings.query_prompt = "forest: "
    before = vectors(encoder, side="query")
    save_encoder(encoder, tmp_path / "saved")
    np.testing.assert_allclose(vectors(load_encoder(str(tmp_path / "saved")), side="query"), before, atol=1e-6)
    peer = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(peer.encode_query(TEXTS), before, atol=1e-5)
    np.testing.assert_allclose(peer.encode_document(TEXTS), vectors(encoder), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_texts_of_a_batch_change_nothing(families, family):
    encoder = load_encoder(families[family], pooling="last" if family in DECODERS else "cls")
    np.testing.assert_allclose(vectors(encoder, EACH_ALONE), vectors(encoder), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_close(families, family):
    encoder = load_encoder(families[family], pooling="last" if family in DECODERS else "mean")
    exact = vectors(encoder)
    rough = TOGETHER._replace(precision="bf16")
    place(encoder, rough)
    cosines = torch.nn.functional.cosine_similarity(torch.from_numpy(exact), torch.from_numpy(vectors(encoder, rough)))
    assert cosines.min() > 0.999


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_reads_to_its_last_token_and_learns_from_there(families, family):
    encoder = load_encoder(families[family], pooling="last").train()
    ids = torch.tensor([[7, 8, 9, 3], [7, 8, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    states = encoder.body(input_ids=ids[1:, :3]).last_hidden_state  # the shorter text alone
    torch.testing.assert_close(encoder(ids, mask)[1], states[0, 2], atol=1e-6, rtol=0)
    encoder(ids, mask).square().sum().backward()
    without = [
        name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.abs().sum()
    ]
    assert not without
    assert not encoder.body.embed_tokens.weight.grad[0].abs().sum(), "padding teaches nothing"


@pytest.mark.parametrize("family", DECODERS)
def test_no_keys_and_values_are_kept_for_a_text_that_nobody_continues(families, family):
    encoder = load_encoder(families[family], pooling="last")
    assert encoder.body(input_ids=torch.tensor([[7, 8, 3]])).past_key_values is None


def test_a_tokenizer_without_padding_pads_with_its_end_token(decoder_without_padding, tmp_path):
    encoder = load_encoder(decoder_without_padding, pooling="last")
    together = vectors(encoder)
    np.testing.assert_allclose(vectors(encoder, EACH_ALONE), together, atol=1e-5)
    save_encoder(encoder, tmp_path / "saved")
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS), together, atol=1e-5
    )
