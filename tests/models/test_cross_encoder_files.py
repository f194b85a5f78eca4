"""What the files of sentence-transformers' CrossEncoder say: prompts, lengths, case, chat templates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from test_cross_encoder import PAIRS, logits_of

from drtools import reporting
from drtools.errors import InputError
from drtools.models.bodies import padding_leaks
from drtools.models.cross_encoder import load_cross_encoder, new_cross_encoder, save_cross_encoder
from drtools.models.pair_tokens import tokenize_pairs
from tests.models.tiny_bodies import cased_tokenizer, every_body, make_tokenizer, spread

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{{ message['content'][0]['text'] }}{% endif %}{% endfor %}"
)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def theirs(folder, pairs=PAIRS):
    return CrossEncoder(str(folder), device="cpu").predict(pairs, activation_fn=torch.nn.Identity())


def same(one, other) -> None:
    assert np.std(other) > 0.01
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.fixture
def prompted(rankers, tmp_path) -> Path:
    """Write a cross-encoder with a prompt as sentence-transformers 6 does."""
    peer = CrossEncoder(rankers["bert"], prompts={"web": "hill lake "}, default_prompt_name="web", device="cpu")
    peer.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    return tmp_path / "prompted"


def test_the_default_prompt_stands_before_each_query_and_in_the_fingerprint(prompted, rankers, tmp_path):
    encoder = load_cross_encoder(str(prompted))
    found = logits_of(encoder, PAIRS)
    same(found, theirs(prompted))
    assert np.abs(found - theirs(rankers["bert"])).max() > 0.01, "it changes the scores"
    fingerprint = encoder.fingerprint()
    edit(prompted / "config_sentence_transformers.json", prompts={"web": "river "})
    other = load_cross_encoder(str(prompted))
    assert other.fingerprint() != fingerprint
    edit(prompted / "config_sentence_transformers.json", default_prompt_name=None)
    assert load_cross_encoder(str(prompted)).fingerprint() not in (fingerprint, other.fingerprint())
    said = save_cross_encoder(encoder, tmp_path / "saved")
    again = load_cross_encoder(str(tmp_path / "saved"))
    assert again.prompt == "hill lake " and again.fingerprint() == said
    np.testing.assert_array_equal(logits_of(again, PAIRS), found)
    same(theirs(tmp_path / "saved"), found)


def test_a_prompt_counts_among_the_tokens_of_a_query(prompted):
    encoder = load_cross_encoder(str(prompted))
    tokens = tokenize_pairs(encoder, [("", "fox"), ("fox", "fox")])
    assert tokens.lengths.tolist() == [3 + 2 + 1, 3 + 3 + 1] and tokens.empty == 1
    with pytest.raises(InputError, match="begins each query with a prompt of 2 tokens, expected 3 or more"):
        encoder.set_lengths(2, None)


def test_a_folder_without_such_settings_is_written_as_before(rankers, tmp_path):
    save_cross_encoder(load_cross_encoder(rankers["bert"]), tmp_path / "saved")
    assert not (tmp_path / "saved/modules.json").exists()
    assert not (tmp_path / "saved/config_sentence_transformers.json").exists()


def test_lengths_and_case_of_the_files_count(rankers, bert, tmp_path):
    peer = CrossEncoder(rankers["bert"], device="cpu")
    peer.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    cased_tokenizer(bert).save_pretrained(tmp_path / "saved")
    loud = [(query.upper(), document.title().replace("[Sep]", "[SEP]")) for query, document in PAIRS]
    plain = load_cross_encoder(str(tmp_path / "saved"))
    before = logits_of(plain, loud)
    same(before, theirs(tmp_path / "saved", loud))
    edit(tmp_path / "saved/sentence_bert_config.json", do_lower_case=True, max_seq_length=20)
    encoder = load_cross_encoder(str(tmp_path / "saved"))
    assert encoder.longest_pair == 20 and encoder.fingerprint() != plain.fingerprint()
    found = logits_of(encoder, loud)
    same(found, theirs(tmp_path / "saved", loud))
    assert np.abs(found - before).max() > 0.01
    save_cross_encoder(encoder, tmp_path / "again")
    same(logits_of(load_cross_encoder(str(tmp_path / "again")), loud), found)
    same(theirs(tmp_path / "again", loud), found)


def test_both_texts_are_cut_on_the_side_that_the_tokenizer_names(rankers, tmp_path):
    save_cross_encoder(load_cross_encoder(rankers["bert"]), tmp_path / "saved")
    right = load_cross_encoder(str(tmp_path / "saved"))
    before = right.fingerprint()
    edit(tmp_path / "saved/tokenizer_config.json", truncation_side="left")
    left = load_cross_encoder(str(tmp_path / "saved"))
    assert left.fingerprint() != before
    for encoder, (query, document) in ((right, ("fox", "hill lake")), (left, ("otter", "lake river"))):
        encoder.set_lengths(1, 2)
        words = [*query.split(), *document.split()]
        ids = tokenize_pairs(encoder, [("fox otter", "hill lake river")]).flat.tolist()
        specials = (encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id)
        assert [number for number in ids if number not in specials] == encoder.tokenizer.convert_tokens_to_ids(words)


def test_pairs_in_a_chat_template_are_read_so_if_the_files_say_it_or_reported(rankers, tmp_path):
    tokenizer = new_cross_encoder(rankers["qwen2"], 1).tokenizer
    tokenizer.chat_template = TEMPLATE
    save_cross_encoder(load_cross_encoder(rankers["qwen2"]), tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    load_cross_encoder(str(tmp_path / "plain"))
    assert [text for text in reporting.notices() if "chat template, which is not used" in text]
    CrossEncoder(str(tmp_path / "plain"), device="cpu").save_pretrained(str(tmp_path / "chat"), create_model_card=False)
    same(logits_of(load_cross_encoder(str(tmp_path / "chat")), PAIRS), theirs(tmp_path / "chat"))
    with pytest.raises(InputError, match=r"modality_config has 'message'.*rankers are trained without"):
        new_cross_encoder(str(tmp_path / "chat"), 1)


def test_what_is_written_has_no_chat_template_for_sentence_transformers_to_use(rankers, tmp_path):
    encoder = load_cross_encoder(rankers["qwen2"])
    before = logits_of(encoder, PAIRS)
    encoder.tokenizer.chat_template = TEMPLATE
    save_cross_encoder(encoder, tmp_path / "saved")
    same(theirs(tmp_path / "saved"), before)


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Sigmoid", "torch.nn.modules.activation.ReLU"])
def test_an_activation_that_changes_more_than_the_scale_is_reported(prompted, name):
    edit(prompted / "config_sentence_transformers.json", activation_fn=name)
    load_cross_encoder(str(prompted))
    assert bool([text for text in reporting.notices() if "is not applied" in text]) == name.endswith("ReLU")


def test_a_cross_encoder_of_other_modules_is_refused(prompted):
    modules = json.loads((prompted / "modules.json").read_text())
    score = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
    for kind, message in (
        ("sentence_transformers.base.modules.dense.Dense", "Dense, expected only the module Transformer, a seq"),
        (score, "no true_token_id was found, which a LogitScore has"),
    ):
        (prompted / "modules.json").write_text(
            json.dumps([*modules, {"idx": 1, "name": "1", "path": "1_LogitScore", "type": kind}])
        )
        with pytest.raises(InputError, match=message):
            load_cross_encoder(str(prompted))


def write_pooled(bert, folder, mode="mean", outputs=1, **prompts) -> Path:
    """Let sentence-transformers make a cross-encoder of a body, a pooling and two dense layers."""
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(5)
    body, pooling = Transformer(bert), Pooling(32, pooling_mode=mode)
    spread(body.auto_model)
    layers = [Dense(32, 16), Dense(16, outputs, activation_function=None, module_output_name="scores")]
    spread(torch.nn.ModuleList(layers))
    peer = CrossEncoder(modules=[body, pooling, *layers], device="cpu", **prompts)
    peer.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.mark.parametrize(("mode", "outputs"), [("mean", 1), ("cls", 1), ("mean", 2)])
def test_a_body_with_a_pooling_and_dense_layers_scores_as_its_makers_do(bert, tmp_path, mode, outputs):
    folder = write_pooled(bert, tmp_path / "pooled", mode, outputs, prompts={"q": "hill "}, default_prompt_name="q")
    encoder = load_cross_encoder(str(folder))
    expected = theirs(folder)
    expected = expected[:, 1] - expected[:, 0] if outputs == 2 else expected
    found = logits_of(encoder, PAIRS)
    same(found, expected)
    np.testing.assert_allclose(logits_of(load_cross_encoder(str(folder)), PAIRS, "bf16"), found, atol=0.1, rtol=0.1)
    (other,) = folder.glob("1_Pooling/config.json")
    edit(other, pooling_mode="max")
    assert load_cross_encoder(str(folder)).fingerprint() != encoder.fingerprint()
    for refused in (lambda: new_cross_encoder(str(folder), 1), lambda: save_cross_encoder(encoder, tmp_path / "out")):
        with pytest.raises(InputError, match=r"a Pooling: rankers are trained without|can only be used as it is"):
            refused()


def test_a_pooled_cross_encoder_whose_last_layer_gives_no_scores_is_refused(bert, tmp_path):
    folder = write_pooled(bert, tmp_path / "pooled")
    edit(folder / "3_Dense/config.json", module_output_name="sentence_embedding")
    with pytest.raises(InputError, match="its last module is a Dense with the output sentence_embedding, expected"):
        load_cross_encoder(str(folder))


def test_one_whose_padding_leaks_scores_a_pair_alike_in_any_company(bert, tmp_path):
    tokenizer = make_tokenizer(bert, "bert")
    spread(every_body(len(tokenizer))["convbert"]()).save_pretrained(tmp_path / "body")
    tokenizer.save_pretrained(tmp_path / "body")
    encoder = new_cross_encoder(str(tmp_path / "body"), 1)
    assert padding_leaks(encoder.model)
    with torch.no_grad():
        for parameter in encoder.model.classifier.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    alone = np.concatenate([logits_of(encoder, [pair]) for pair in PAIRS])
    np.testing.assert_allclose(logits_of(encoder, PAIRS), alone, rtol=1e-5, atol=1e-5)
    assert alone.std() > 0.01
