"""Tokenizers: whether they belong to the weights, and what tokenizer_config.json says beside tokenizer.json."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from drtools import reporting
from drtools.cli import console
from drtools.cli.main import main
from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.models.settings import fingerprints, read_settings
from drtools.models.tokenizers import deviations, end_token
from tests.models.tiny_bodies import EVERY_FAMILY, every_body, make_body, make_tokenizer, spread, write_model

TEXTS = ["fox runs", "the otter SWIMS in the river and hunts salmon", "[SEP] hammer", ""]
TOGETHER = Compute("cpu", "fp32", 10_000)


def vectors(folder, side="document", texts=TEXTS):
    return encode_texts(load_encoder(str(folder)), texts, side, TOGETHER)


def edit(folder, file: str, **changes: object) -> None:
    path = Path(folder) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_files(source: str, folder: Path) -> str:
    shutil.copytree(source, folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    return str(folder)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "qwen2"])
def test_a_model_without_its_tokenizers_files_is_refused(families, family, tmp_path):
    folder = without_files(families[family], tmp_path / "model")
    with pytest.raises(InputError, match=r"its tokenizer has \d+ tokens, \d+ of them special.*add the tokenizer"):
        load_encoder(folder, pooling="mean")


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_so_is_every_family_without_them(bert, family, tmp_path):
    """transformers makes an empty tokenizer for some, and fails in one way or another for the rest."""
    tokenizer = make_tokenizer(bert, "bert")
    write_model(tmp_path / "model", every_body(len(tokenizer))[family](), tokenizer)
    with pytest.raises(InputError, match=r"tokenizer\.json that belongs to the weights"):
        load_encoder(without_files(str(tmp_path / "model"), tmp_path / "copy"))


def test_so_is_a_cross_encoder(rankers, tmp_path):
    with pytest.raises(InputError, match="5 tokens, 5 of them special"):
        load_cross_encoder(without_files(rankers["bert"], tmp_path / "model"))


def test_ids_beyond_the_embeddings_are_refused_with_their_numbers(bert, tmp_path, toy, capsys):
    tokenizer = make_tokenizer(bert, "bert")
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<new_pad>"})
    folder = write_model(tmp_path / "model", make_body("bert", rows), tokenizer)
    with pytest.raises(SystemExit) as ended:
        main(f"encode --model {folder} --corpus {toy.corpus} -o {toy.folder / 'vectors'}".split())
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"ids up to {rows} ('<new_pad>'), but its embeddings have {rows} rows" in said


@pytest.mark.slow  # CANINE's tokenizer has a million tokens
def test_a_body_that_hashes_characters_has_no_embeddings_to_exceed(tmp_path):
    from transformers import CanineConfig, CanineModel, CanineTokenizer

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    hashed = {"num_hash_buckets": 64, "num_hash_functions": 4, "local_transformer_stride": 8, "downsampling_rate": 2}
    config = CanineConfig(**sizes, **hashed, max_position_embeddings=64, upsampling_kernel_size=2)
    folder = write_model(tmp_path / "model", spread(CanineModel(config)), CanineTokenizer(model_max_length=64))
    found, _ = vectors(folder, texts=TEXTS[:3])
    peer = SentenceTransformer(folder, device="cpu").encode(TEXTS[:3], batch_size=1)
    np.testing.assert_allclose(found, peer, atol=1e-5)


@pytest.fixture
def decoder(bert, tmp_path):
    """Return what writes a decoder whose tokenizer.json appends no end token, with a tokenizer_config.json."""

    def write(pooling: str, processor: dict | None = None, **config: object) -> Path:
        tokenizer = make_tokenizer(bert, "llama")
        folder = tmp_path / f"decoder-{pooling}"
        write_model(folder, spread(make_body("llama", len(tokenizer))), tokenizer, pooling)
        edit(folder, "tokenizer.json", post_processor=processor)
        edit(folder, "tokenizer_config.json", **config)
        return folder

    return write


FIRST = {  # [CLS] first, nothing last
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
}
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
PROCESSORS = {
    "none": (None, [7, 3]),
    "bytes": (BYTES, [7, 3]),
    "template": (FIRST, [2, 7, 3]),
    "both": ({"type": "Sequence", "processors": [BYTES, FIRST]}, [2, 7, 3]),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_the_end_token_that_the_files_ask_for_is_appended_under_last_token_pooling(decoder, tmp_path, kind):
    processor, ids = PROCESSORS[kind]
    plain = decoder("last", processor)
    before = load_encoder(str(plain)).side_fingerprints()
    folder = decoder("last", processor, add_eos_token=True)
    encoder = load_encoder(str(folder))
    word = encoder.tokenizer.convert_ids_to_tokens(7)
    assert [text for text in reporting.notices() if "[SEP] is appended to each text" in text]
    found, tokens = encode_texts(encoder, [word, " ".join([word] * 90)], "document", TOGETHER)
    assert tokens.flat[: tokens.starts[1]].tolist() == ids
    assert tokens.lengths[1] == 64 and tokens.flat[-1] == 3, "a text that is cut ends with it too"
    with torch.no_grad():
        states = encoder.body(input_ids=torch.tensor([ids])).last_hidden_state
    np.testing.assert_allclose(found[0], states[0, -1].numpy(), atol=1e-6)
    fingerprints = encoder.side_fingerprints()
    assert fingerprints != before and end_token(folder, ("last",)) == "[SEP]"
    console.configure("test")
    save_encoder(encoder, tmp_path / "saved")
    peer = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(peer.encode([word]), found[:1], atol=1e-5)
    again = load_encoder(str(tmp_path / "saved"))
    np.testing.assert_allclose(encode_texts(again, [word], "document", TOGETHER)[0], found[:1], atol=1e-6)
    assert not reporting.notices(), "tokenizer.json appends it now"


def test_where_the_files_contradict_each_other_it_is_reported(decoder):
    mean = decoder("mean", FIRST, add_eos_token=True)
    encoder = load_encoder(str(mean))
    assert [text for text in reporting.notices() if "add_eos_token is true in tokenizer_config.json, but" in text]
    assert encoder.tokenizer("fox")["input_ids"][-1] != 3 and deviations(mean, ("mean",)) == {}
    console.configure("test")
    load_encoder(str(decoder("last", FIRST, add_bos_token=False, bos_token="[CLS]")))
    assert [text for text in reporting.notices() if "add_bos_token is false" in text and "adds [CLS]" in text]


@pytest.fixture
def cut_on_the_left(bert, tmp_path) -> Path:
    tokenizer = make_tokenizer(bert, "bert")
    lengths = {"max_seq_length": 8, "do_lower_case": False}
    write_model(tmp_path / "left", spread(make_body("bert", len(tokenizer))), tokenizer, sentence_bert_config=lengths)
    edit(tmp_path / "left", "tokenizer_config.json", truncation_side="left")
    return tmp_path / "left"


def test_texts_are_cut_on_the_side_that_the_tokenizer_names(cut_on_the_left, tmp_path):
    found, tokens = vectors(cut_on_the_left, texts=TEXTS[:2])
    assert tokens.truncated == 1 and tokens.lengths.tolist() == [4, 8]
    whole = load_encoder(str(cut_on_the_left)).tokenizer(TEXTS[1], truncation=False)["input_ids"]
    assert tokens.flat[4:].tolist() == [whole[0], *whole[-7:]], "the last six words' tokens, between [CLS] and [SEP]"
    np.testing.assert_allclose(
        found, SentenceTransformer(str(cut_on_the_left), device="cpu").encode(TEXTS[:2]), atol=1e-5
    )
    save_encoder(load_encoder(str(cut_on_the_left)), tmp_path / "saved")
    np.testing.assert_array_equal(vectors(tmp_path / "saved", texts=TEXTS[:2])[0], found)
    left = load_encoder(str(cut_on_the_left)).side_fingerprints()
    edit(cut_on_the_left, "tokenizer_config.json", truncation_side="right")
    assert load_encoder(str(cut_on_the_left)).side_fingerprints() != left


def test_the_side_that_tokenizer_json_names_counts_too(cut_on_the_left):
    config = json.loads((cut_on_the_left / "tokenizer_config.json").read_text())
    config.pop("truncation_side")
    (cut_on_the_left / "tokenizer_config.json").write_text(json.dumps(config))
    assert deviations(cut_on_the_left) == {}
    truncation = {"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    whole = json.loads((cut_on_the_left / "tokenizer.json").read_text()) | {"truncation": truncation}
    (cut_on_the_left / "tokenizer.json").write_text(json.dumps(whole, indent=2))
    assert deviations(cut_on_the_left) == {"truncation_side": "left"}
    assert load_encoder(str(cut_on_the_left)).tokenizer.truncation_side == "left"


@pytest.mark.parametrize("side", ["query", "document"])
def test_lower_case_holds_for_the_prompt_and_not_for_special_tokens(lowering_folder, side, tmp_path):
    found, tokens = vectors(lowering_folder, side)
    peer = SentenceTransformer(lowering_folder, device="cpu")
    theirs = peer.encode_query(TEXTS) if side == "query" else peer.encode_document(TEXTS)
    np.testing.assert_allclose(found, theirs, atol=1e-5)
    third = tokens.flat[tokens.starts[2] : tokens.starts[3]].tolist()
    assert third.count(3) == 2 and 1 not in third, "[SEP] in a text is that token, and FOX in the prompt is known"
    save_encoder(load_encoder(lowering_folder), tmp_path / "saved")
    np.testing.assert_allclose(vectors(tmp_path / "saved", side)[0], found, atol=1e-6)
    peer = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(peer.encode_query(TEXTS) if side == "query" else peer.encode(TEXTS), theirs, atol=1e-5)


def test_case_that_tokenizer_config_decides_is_in_the_fingerprint_and_reported(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "model")
    before = load_encoder(str(tmp_path / "model"), "mean").side_fingerprints()
    assert deviations(tmp_path / "model") == {} and not reporting.notices()
    edit(tmp_path / "model", "tokenizer_config.json", do_lower_case=False)
    after = load_encoder(str(tmp_path / "model"), "mean")
    assert after.tokenizer("FOX")["input_ids"][1] == after.tokenizer.unk_token_id
    assert after.side_fingerprints()["query"] != before["query"]
    assert [text for text in reporting.notices() if "texts are not lower-cased" in text]


def fingerprint(folder) -> str:
    return fingerprints(Path(folder), read_settings(Path(folder), "mean"))["document"]


def with_class(source: str, folder: Path, name: str) -> Path:
    """Copy a model; its tokenizer gets a class, which decides on more than tokenizer.json says."""
    shutil.copytree(source, folder)
    edit(folder, "tokenizer_config.json", tokenizer_class=name)
    return folder


OTHERWISE = (
    {"split_special_tokens": True},
    {"do_lower_case": False},
    {"cls_token": "[MASK]"},
    {"sep_token": "[MASK]"},
    {"unk_token": "[PAD]"},
    {"extra_special_tokens": ["fox"]},
    {"bos_token": "fox"},
)
WORDS = ["FOX runs", "[SEP] hammer [MASK]", "☃ otter", "foxrun"]


@pytest.mark.parametrize("change", OTHERWISE, ids=str)
def test_what_tokenizer_config_changes_of_the_ids_is_in_the_fingerprint(encoder_folder, tmp_path, change):
    from transformers import AutoTokenizer

    folder = with_class(encoder_folder, tmp_path / "model", "BertTokenizer")
    before, ids = fingerprint(folder), AutoTokenizer.from_pretrained(folder)(WORDS)["input_ids"]
    edit(folder, "tokenizer_config.json", **change)
    assert AutoTokenizer.from_pretrained(folder)(WORDS)["input_ids"] != ids
    assert fingerprint(folder) != before


def test_what_changes_no_ids_is_not(encoder_folder, tmp_path):
    folder = with_class(encoder_folder, tmp_path / "model", "BertTokenizer")
    before = fingerprint(folder)
    assert deviations(folder) == {} and before == fingerprint(encoder_folder)
    edit(folder, "tokenizer_config.json", split_special_tokens=False, padding_side="left", model_max_length=9)
    (folder / "merges.txt").write_text("a b\n")  # beside tokenizer.json nothing reads it
    assert fingerprint(folder) == before


@pytest.fixture
def of_merges(tmp_path) -> Path:
    """Return a GPT-2 whose tokenizer is vocab.json and merges.txt, without tokenizer.json."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2Model

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(["fox runs and the otter swims in the river with a hammer"] * 9, trainer)
    folder = tmp_path / "merges"
    GPT2Model(GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, n_positions=64)).save_pretrained(folder)
    backend.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    return folder


def test_vocabulary_files_without_tokenizer_json_are_in_the_fingerprint(of_merges):
    texts = ["fox runs", "the otter swims"]

    def encode():
        return encode_texts(load_encoder(str(of_merges), "mean"), texts, "document", TOGETHER)[0]

    before, rows = fingerprint(of_merges), encode()
    edit(of_merges, "tokenizer_config.json", add_prefix_space=True)
    spaced = fingerprint(of_merges)
    assert np.abs(encode() - rows).max() > 1e-3 and spaced != before
    edit(of_merges, "tokenizer_config.json", add_prefix_space=False)
    assert fingerprint(of_merges) == before
    merges = (of_merges / "merges.txt").read_text().splitlines(keepends=True)
    (of_merges / "merges.txt").write_text("".join(merges[:5]))
    assert np.abs(encode() - rows).max() > 1e-3 and fingerprint(of_merges) not in (before, spaced)


def test_a_special_token_that_tokenizer_config_adds_is_named_as_the_cause(families, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(families["roberta"], folder)
    edit(folder, "tokenizer_config.json", additional_special_tokens=["<new>"])
    with pytest.raises(InputError, match=r"tokenizer_config.json: it has the special token '<new>', which tokenizer.j"):
        load_encoder(str(folder), pooling="mean")
