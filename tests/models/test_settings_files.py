"""Settings that are broken or assumed: a line that names file and key, and prompts that no side is known by."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from drtools import reporting
from drtools.encoding.loop import Compute, encode_texts
from drtools.errors import InputError
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.loader import load_encoder

LENGTHS, CONFIG, POOLING = "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"
TEXTS = ["fox runs", "the otter swims in the river"]


@pytest.fixture
def plain(encoder_folder, tmp_path) -> Path:
    """Copy a sentence-transformers folder that no drtools.json overrules."""
    shutil.copytree(encoder_folder, tmp_path / "model")
    (tmp_path / "model" / "drtools.json").unlink()
    return tmp_path / "model"


def edit(folder: Path, name: str, **changes: object) -> None:
    path = folder / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def add_dense(folder: Path, config: dict | None) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    module = {"idx": 9, "name": "9", "path": "9_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, module]))
    (folder / "9_Dense").mkdir()
    if config is not None:
        (folder / "9_Dense" / "config.json").write_text(json.dumps(config))


BROKEN = (
    (LENGTHS, {"max_seq_length": -1}),
    (LENGTHS, {"max_seq_length": 0}),
    (LENGTHS, {"max_seq_length": "16"}),
    (LENGTHS, {"max_seq_length": True}),
    (LENGTHS, {"query_length": 0}),
    (LENGTHS, {"document_length": "8"}),
    (LENGTHS, {"do_lower_case": "no"}),
    (LENGTHS, {"model_args": ["float16"]}),
    (LENGTHS, {"tokenizer_args": {"model_max_length": "9"}}),
    (CONFIG, {"prompts": ["a"]}),
    (CONFIG, {"prompts": {"query": 5}}),
    (CONFIG, {"truncate_dim": True}),
    (CONFIG, {"truncate_dim": -3}),
    (CONFIG, {"requirements": ["torch>99"]}),
    (CONFIG, {"default_prompt_name": ["query"]}),
    (POOLING, {"pooling_mode_mean_tokens": "yes"}),
    ("drtools.json", {"kind": "encoder", "max_query_tokens": "8"}),
)


@pytest.mark.parametrize(("name", "change"), BROKEN, ids=str)
def test_a_value_of_no_use_is_refused_with_its_file_and_key(plain, name, change):
    edit(plain, name, **change)
    *_, (key, value) = change.items()
    while isinstance(value, dict) and key != "prompts":
        ((key, value),) = value.items()
    with pytest.raises(InputError) as refused:
        load_encoder(str(plain))
    assert f"{plain / name}: {key} is {value!r}, expected " in str(refused.value)


def test_so_it_is_in_the_files_of_a_cross_encoder(rankers, tmp_path):
    shutil.copytree(rankers["bert"], tmp_path / "ranker")
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (tmp_path / "ranker" / "modules.json").write_text(json.dumps([module]))
    edit(tmp_path / "ranker", CONFIG, model_type="CrossEncoder", prompts={"web": 5})
    with pytest.raises(InputError, match=r"prompts is {'web': 5}, expected an object, each value a string or null"):
        load_cross_encoder(str(tmp_path / "ranker"))


DENSE = {"in_features": 32, "out_features": 8}


@pytest.mark.parametrize("config", [None, {}, {"in_features": 32}, {**DENSE, "out_features": 0}], ids=str)
def test_a_dense_layer_without_its_sizes_is_refused(plain, config):
    add_dense(plain, config)
    with pytest.raises(
        InputError, match=r"9_Dense.*(no config.json was found|no \w+_features was found|is 0, expected)"
    ):
        load_encoder(str(plain))


def test_a_pooling_that_no_file_names_is_refused_as_sentence_transformers_does(plain):
    (plain / POOLING).unlink()
    with pytest.raises(TypeError, match="embedding_dimension"):
        SentenceTransformer(str(plain), device="cpu")
    with pytest.raises(
        InputError, match=r"1_Pooling: no config.json was found, expected one in the folder of the module Pooling"
    ):
        load_encoder(str(plain))


@pytest.mark.parametrize("config", [{"pooling_mode": []}, {"pooling_mode_cls_token": False}], ids=str)
def test_a_pooling_with_nothing_on_is_refused(plain, config):
    (plain / POOLING).write_text(json.dumps({"word_embedding_dimension": 32, **config}))
    with pytest.raises(InputError, match="found no pooling that is on, expected one of cls, max, mean"):
        load_encoder(str(plain))


def test_a_pooling_file_without_a_word_on_it_means_mean_and_is_reported(plain):
    (plain / POOLING).write_text(json.dumps({"word_embedding_dimension": 32}))
    peer = SentenceTransformer(str(plain), device="cpu")
    found = encode_texts(load_encoder(str(plain)), TEXTS, "document", Compute("cpu", "fp32", 1000))[0]
    np.testing.assert_allclose(found, peer.encode_document(TEXTS), atol=1e-5)
    assert [text for text in reporting.notices() if "it has no pooling; mean is assumed" in text]


@pytest.mark.parametrize("longest", [1, 2])
def test_a_length_without_room_for_a_word_is_refused(plain, longest):
    edit(plain, LENGTHS, max_seq_length=longest)
    with pytest.raises(InputError, match=r"the special tokens of a text alone are 2, expected 3 or more"):
        load_encoder(str(plain))


def test_a_broken_length_of_a_ranker_of_ours_is_refused(rankers, tmp_path):
    shutil.copytree(rankers["bert"], tmp_path / "ranker")
    edit(tmp_path / "ranker", "drtools.json", kind="ranker", longest_pair="64")
    with pytest.raises(InputError, match=r"longest_pair is '64', expected a whole number, at least 1"):
        load_cross_encoder(str(tmp_path / "ranker"))


def test_an_unknown_key_of_ours_is_reported(plain):
    edit(plain, "drtools.json", kind="encoder", query_promt="fox: ")
    load_encoder(str(plain))
    assert [text for text in reporting.notices() if "drtools.json: the key 'query_promt' is not known" in text]


def notes(folder: Path, prompts: dict, **more: object) -> list[str]:
    (folder / CONFIG).write_text(json.dumps({"prompts": prompts, **more}))
    return [text for text in load_encoder(str(folder)).settings.notes if "prompt" in text]


@pytest.mark.parametrize("query", ["search_query", "retrieval.query", "s2p_query"])
def test_prompts_by_other_names_are_reported_with_what_to_pass(plain, query):
    (one,) = notes(plain, {query: "fox: ", "document": ""})
    assert f"{query!r} ('fox: ')" in one and "--query-prompt 'fox: '" in one
    first, second = notes(plain, {query: "fox: ", "search_document": "hill: "})
    assert "--query-prompt 'fox: '" in first and "--document-prompt 'hill: '" in second
    assert not notes(plain, {"query": "fox: ", "document": "", "clustering": "hill: "})
    assert not notes(plain, {"query": "fox: "})


@pytest.mark.parametrize(
    ("prompts", "more", "sides"),
    [
        ({"query": "fox: ", "passage": "hill: "}, {}, ["document"]),
        ({"web": "hill: "}, {"default_prompt_name": "web"}, ["query", "document"]),
        ({"query": "fox: ", "document": "hill: "}, {}, []),
    ],
)
def test_where_sentence_transformers_gives_a_side_no_prompt_this_is_reported(plain, prompts, more, sides):
    """The truth is encode_query and encode_document of the version that is installed."""
    told = notes(plain, prompts, **more)
    assert [f"pass --{side}-prompt ''" in text for side, text in zip(sides, told, strict=True)] == [True] * len(sides)
    peer, encoder = SentenceTransformer(str(plain), device="cpu"), load_encoder(str(plain))
    for side, encode in (("query", peer.encode_query), ("document", peer.encode_document)):
        own = encode_texts(encoder, TEXTS, side, Compute("cpu", "fp32", 1000))[0]
        assert np.allclose(own, encode(TEXTS), atol=1e-5) == (side not in sides)
