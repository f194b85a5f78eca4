"""Cross-encoders.

Pairs as the tokenizer's own template has them, the same logits as peers, folders that all can load.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from drtools.encoding.loop import encode_tokens
from drtools.errors import InputError
from drtools.models.compute import Compute, place
from drtools.models.cross_encoder import load_cross_encoder, new_cross_encoder, save_cross_encoder
from drtools.models.pair_tokens import tokenize_pairs
from tests.models.tiny_bodies import RANKED

QUERIES = ["fox", "river hunts otter", "hammer vise 7"]
DOCUMENTS = ["the fox swims", "anvil [SEP] chisel [MASK] lathe", "hill"]
PAIRS = [(query, document) for query in QUERIES for document in DOCUMENTS]


def logits_of(encoder, pairs, precision="fp32"):
    place(encoder, Compute("cpu", precision, 64))
    found = np.empty((len(pairs), 1), np.float32)
    encode_tokens(encoder, tokenize_pairs(encoder, pairs), Compute("cpu", precision, 64), found)
    return found[:, 0]


@pytest.mark.parametrize("family", RANKED)
def test_peers_load_it_with_the_same_logits(rankers, family):
    from sentence_transformers import CrossEncoder
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ours = logits_of(load_cross_encoder(rankers[family]), PAIRS)
    assert ours.std() > 0.01
    np.testing.assert_allclose(ours, CrossEncoder(rankers[family], device="cpu").predict(PAIRS), rtol=1e-5, atol=1e-5)
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(rankers[family]).eval(),
        AutoTokenizer.from_pretrained(rankers[family]),
    )
    for (query, document), logit in zip(PAIRS, ours, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(
                model(**tokenizer(query, document, return_tensors="pt")).logits.numpy(), [[logit]], rtol=1e-5, atol=1e-5
            )


def test_of_two_outputs_the_second_minus_the_first(rankers):
    from sentence_transformers import CrossEncoder

    both = CrossEncoder(rankers["two"], device="cpu").predict(PAIRS)
    np.testing.assert_allclose(
        logits_of(load_cross_encoder(rankers["two"]), PAIRS), both[:, 1] - both[:, 0], rtol=1e-5, atol=1e-5
    )


def test_in_bfloat16_logits_keep_their_float32_steps(rankers):
    exact, rough = (logits_of(load_cross_encoder(rankers["bert"]), PAIRS, precision) for precision in ("fp32", "bf16"))
    assert np.corrcoef(exact, rough)[0, 1] > 0.99
    assert any(torch.tensor(value).bfloat16().float().item() != value for value in rough)


def test_pairs_are_the_tokenizers_own_and_cut_where_the_lengths_say(rankers):
    encoder = load_cross_encoder(rankers["bert"])
    tokens = tokenize_pairs(encoder, PAIRS)
    ids, mask, types = tokens.inputs(range(len(PAIRS)))
    theirs = encoder.tokenizer(
        [query for query, _ in PAIRS], [document for _, document in PAIRS], padding=True, return_tensors="np"
    )
    np.testing.assert_array_equal(ids, theirs["input_ids"])
    np.testing.assert_array_equal(mask, theirs["attention_mask"])
    np.testing.assert_array_equal(types, theirs["token_type_ids"])
    assert tokens.truncated == tokens.truncated_queries == tokens.empty == 0
    marked = ids[1].tolist()
    assert (
        marked.count(encoder.tokenizer.sep_token_id) == 3
        and encoder.tokenizer.mask_token_id in marked
        and types[1][marked.index(encoder.tokenizer.mask_token_id)] == 1
    )


def test_neither_text_is_lost_to_the_other(rankers):
    encoder = load_cross_encoder(rankers["bert"])
    long = " ".join(["fox"] * 100)
    tokens = tokenize_pairs(encoder, [(long, long), ("hill", long), (long, "hill"), ("hill", "")])
    assert encoder.longest_pair == 64 and tokens.lengths.tolist() == [64, 64, 30 + 1 + 3, 4]
    assert (tokens.truncated, tokens.truncated_queries, tokens.empty) == (2, 2, 1)
    encoder.set_lengths(5, 7)
    tokens = tokenize_pairs(encoder, [(long, long), ("hill", long), (long, long)], [None, None, 14])
    assert tokens.lengths.tolist() == [5 + 7 + 3, 1 + 7 + 3, 5 + 14 + 3] and encoder.max_pair_tokens == 15
    with pytest.raises(
        InputError, match=r"max_document_tokens 61: .* reads pairs of 61 tokens, without special tokens"
    ):
        encoder.set_lengths(None, 61)


def test_lengths_are_saved_and_are_part_of_the_fingerprint(rankers, tmp_path):
    encoder = load_cross_encoder(rankers["bert"])
    before = encoder.fingerprint()
    encoder.set_lengths(8, 16)
    assert encoder.fingerprint() != before
    said = save_cross_encoder(encoder, tmp_path / "saved")
    again = load_cross_encoder(str(tmp_path / "saved"))
    assert (
        again.max_query_tokens,
        again.max_document_tokens,
        again.longest_pair,
        again.tokenizer.model_max_length,
    ) == (8, 16, 64, 27)
    assert again.fingerprint() == said


def test_a_new_head_is_drawn_by_the_seed_and_a_finished_one_is_kept(bert, rankers):
    one, same, other = (new_cross_encoder(bert, seed).model.classifier.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(
        new_cross_encoder(rankers["bert"], 1).model.classifier.weight,
        load_cross_encoder(rankers["bert"]).model.classifier.weight,
    )


def test_what_is_trained_on_from_two_outputs_has_one_with_the_same_logits(rankers, tmp_path):
    from sentence_transformers import CrossEncoder

    before = logits_of(load_cross_encoder(rankers["two"]), PAIRS)
    start = new_cross_encoder(rankers["two"], 1)
    assert not start.head_is_new and before.std() > 0.01
    np.testing.assert_allclose(logits_of(start, PAIRS), before, rtol=1e-4, atol=1e-4)
    save_cross_encoder(start, tmp_path / "one")
    predicted = CrossEncoder(str(tmp_path / "one"), device="cpu").predict(PAIRS)
    assert predicted.shape == (len(PAIRS),)
    np.testing.assert_allclose(predicted, before, rtol=1e-4, atol=1e-4)


def test_what_is_no_cross_encoder_is_refused(bert, rankers, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with pytest.raises(InputError, match=r"found BertModel, expected a cross-encoder .*train-ranker"):
        load_cross_encoder(bert)
    three = tmp_path / "three"
    AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3).save_pretrained(three)
    AutoTokenizer.from_pretrained(bert).save_pretrained(three)
    with pytest.raises(InputError, match="a classifier of 3 outputs, expected a cross-encoder"):
        load_cross_encoder(str(three))
    (three / "model.safetensors").rename(three / "pytorch_model.bin")
    with pytest.raises(InputError, match="could not be read as weights"):
        load_cross_encoder(str(three))
    (three / "pytorch_model.bin").rename(three / "weights.pt")
    with pytest.raises(InputError, match="convert pickled weights with `drtools import-model"):
        load_cross_encoder(str(three))
    config = json.loads((three / "config.json").read_text())
    (three / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    (three / "model.safetensors").write_bytes((Path(bert) / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="the weights lack 2 tensors"):
        load_cross_encoder(str(three))
    with pytest.raises(InputError, match=r"no config.json"):
        load_cross_encoder(str(tmp_path))


def test_its_body_may_become_an_encoder(rankers):
    from drtools.models.loader import load_encoder

    encoder = load_encoder(rankers["bert"], pooling="cls")
    assert encoder.settings.max_document_tokens == encoder.settings.max_query_tokens == 64
    assert torch.equal(
        encoder.body.embeddings.word_embeddings.weight,
        load_cross_encoder(rankers["bert"]).body.embeddings.word_embeddings.weight,
    )
