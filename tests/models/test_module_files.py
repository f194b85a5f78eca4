"""Files of sentence-transformers: each key is used as there, changes nothing, or is refused or reported by name."""

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

from drtools import reporting
from drtools.cli import console
from drtools.cli.main import main
from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.models.module_files import KWARGS, LENGTH_FILES
from drtools.models.module_keys import KEYS, Only
from drtools.models.settings import read_settings, vector_dimension
from drtools.training.student import add_projection
from tests.models.tiny_bodies import make_body, make_tokenizer, spread, write_model

TEXTS = ["fox runs", "the otter swims in the river and hunts salmon near the hill", "hammer", "a wrench holds x9"]
TOGETHER = Compute("cpu", "fp32", 10_000)
PROMPTED = {"prompts": {"query": "fox: ", "document": "hill hill: "}, "default_prompt_name": None}


@pytest.fixture
def plain(bert, tmp_path) -> Path:
    """Write a sentence-transformers folder of a BERT whose vectors tell texts apart, with mean pooling."""
    tokenizer = make_tokenizer(bert, "bert")
    write_model(tmp_path / "model", spread(make_body("bert", len(tokenizer))), tokenizer)
    return tmp_path / "model"


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def add_module(folder: Path, kind: str, config: dict | None, package: str = "sentence_transformers.models") -> None:
    modules = json.loads((folder / "modules.json").read_text())
    path = f"{len(modules)}_{kind}"
    write(folder, "modules.json", [*modules, {"idx": 9, "name": "9", "path": path, "type": f"{package}.{kind}"}])
    if config is not None:
        write(folder, f"{path}/config.json", config)


def vectors(folder, side="document", pooling=None):
    return encode_texts(load_encoder(str(folder), pooling), TEXTS, side, TOGETHER)[0]


def check_sides(folder) -> None:
    """Hold both sides against sentence-transformers."""
    peer = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(vectors(folder, "query"), peer.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(vectors(folder, "document"), peer.encode_document(TEXTS), atol=1e-5)


def test_every_key_that_sentence_transformers_reads_is_in_the_tables(plain, rankers, tmp_path):
    """The truth is its own code: what its classes take, and what they write."""
    arguments = {*inspect.signature(inspect.unwrap(Transformer.__init__)).parameters}
    arguments -= {"self", "model_name_or_path", "backend"}  # who calls says these, no file
    for table in ("sentence_bert_config.json", "CrossEncoder's sentence_bert_config.json"):
        assert arguments | {*KWARGS} <= KEYS[table].keys()
    for module in (Pooling, Dense, LayerNorm, Normalize, Dropout):
        assert {*module.config_keys} <= KEYS[module.__name__].keys()
        assert {*inspect.signature(inspect.unwrap(module.__init__)).parameters} - {
            "self",
            *("init_weight", "init_bias"),  # tensors, which no JSON holds
            *("args", "kwargs"),
        } <= KEYS[module.__name__].keys()
    for model, table in (
        (SentenceTransformer(str(plain), device="cpu", truncate_dim=8), ""),
        (CrossEncoder(rankers["bert"], device="cpu", keep_in_fp32_modules=["0.model.classifier"]), "CrossEncoder's "),
    ):
        model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
        for name in ("config_sentence_transformers.json", "sentence_bert_config.json"):
            assert json.loads((tmp_path / "saved" / name).read_text()).keys() <= KEYS[table + name].keys()
    assert all(what for table in KEYS.values() for what in table.values()), "each has its use or its reason"


@pytest.mark.parametrize("normalized", [False, True])
def test_vectors_are_truncated_as_the_files_say(plain, tmp_path, normalized):
    if normalized:
        add_module(plain, "Normalize", {})
    before = load_encoder(str(plain)).side_fingerprints()
    write(plain, "config_sentence_transformers.json", {**PROMPTED, "truncate_dim": 12})
    encoder = load_encoder(str(plain))
    assert encoder.dimension == vector_dimension(plain, read_settings(plain)) == 12
    assert not encoder.settings.normalized, "twelve of 32 numbers have not length 1"
    check_sides(plain)
    assert encoder.side_fingerprints() != before
    save_encoder(encoder, tmp_path / "saved")
    check_sides(tmp_path / "saved")
    np.testing.assert_allclose(vectors(tmp_path / "saved"), vectors(plain), atol=1e-6)


def test_truncated_vectors_can_be_given_length_1(plain, tmp_path):
    write(plain, "config_sentence_transformers.json", {"truncate_dim": 12, "similarity_fn_name": "cosine"})
    expected = vectors(plain)
    assert [text for text in reporting.notices() if "by cosine, but they do not have length 1" in text]
    console.configure("test")
    scaled = vectors(plain, pooling="mean+normalize")
    np.testing.assert_allclose(scaled, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert not reporting.notices()
    save_encoder(load_encoder(str(plain), "mean+normalize"), tmp_path / "saved")
    check_sides(tmp_path / "saved")
    np.testing.assert_allclose(vectors(tmp_path / "saved"), scaled, atol=1e-6)


def test_a_projection_comes_ahead_of_the_truncation(plain, tmp_path):
    write(plain, "config_sentence_transformers.json", {"truncate_dim": 12})
    encoder = load_encoder(str(plain))
    assert add_projection(encoder, 20) and encoder.dimension == 12
    save_encoder(encoder, tmp_path / "saved")
    assert [layer["kind"] for layer in load_encoder(str(tmp_path / "saved")).settings.head] == [
        "dense",
        "layer-norm",
        "truncate",
    ]
    check_sides(tmp_path / "saved")


@pytest.mark.parametrize("limit", [12, 100])
def test_each_side_has_its_own_length(plain, limit):
    write(plain, "sentence_bert_config.json", {"query_length": 5, "document_length": limit})
    settings = load_encoder(str(plain)).settings
    assert (settings.max_query_tokens, settings.max_document_tokens) == (5, min(limit, 66)), "no more than positions"
    if limit < 66:
        check_sides(plain)


@pytest.mark.parametrize("name", LENGTH_FILES)
def test_lengths_may_lie_in_a_file_named_after_another_model(plain, name):
    write(plain, name, {"max_seq_length": 7, "do_lower_case": False})
    assert load_encoder(str(plain)).settings.max_document_tokens == 7
    check_sides(plain)


def test_the_length_of_a_tokenizer_that_the_files_set_counts(plain):
    write(plain, "sentence_bert_config.json", {"processor_kwargs": {"model_max_length": 6}})
    assert load_encoder(str(plain)).settings.max_query_tokens == 6
    check_sides(plain)


@pytest.mark.parametrize("default", [None, "web"])
def test_a_prompt_that_is_saved_as_nothing_is_a_prompt(plain, default):
    prompts = {"query": "", "document": "", "web": "hill: "}
    write(plain, "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": default})
    check_sides(plain)


def test_an_empty_document_prompt_beside_another_is_reported(plain):
    prompts = {"query": "fox: ", "document": "", "passage": "hill: "}
    write(plain, "config_sentence_transformers.json", {"prompts": prompts})
    check_sides(plain)
    assert [text for text in reporting.notices() if "pass --document-prompt 'hill: '" in text]


REFUSED = {
    "transformer_task": ("sentence_bert_config.json", {"transformer_task": "fill-mask"}),
    "module_output_name": ("sentence_bert_config.json", {"module_output_name": "sentence_embedding"}),
    "processing_kwargs": ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 5}}}),
    "query_expansion": ("sentence_bert_config.json", {"query_expansion": {"length": 32}}),
    "tokenizer_name_or_path": ("sentence_bert_config.json", {"tokenizer_name_or_path": "another/one"}),
    "rotary_kwargs": ("sentence_bert_config.json", {"model_args": {"rotary_kwargs": {"scale": 2}}}),
    "is_causal": ("sentence_bert_config.json", {"config_kwargs": {"is_causal": False}}),
    "add_prefix_space": ("sentence_bert_config.json", {"tokenizer_args": {"add_prefix_space": True}}),
    "message": (
        "sentence_bert_config.json",
        {"modality_config": {"message": {"method": "forward", "method_output_name": "last_hidden_state"}}},
    ),
    "pooler_output": (
        "sentence_bert_config.json",
        {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}},
    ),
    "SparseEncoder": ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}),
    "do_query_expansion": ("config_sentence_transformers.json", {"do_query_expansion": True}),
    "truncate_dim": ("config_sentence_transformers.json", {"truncate_dim": 0}),
    "default_prompt_name": ("config_sentence_transformers.json", {"default_prompt_name": "absent"}),
    "transformers >=99": ("config_sentence_transformers.json", {"requirements": {"transformers": ">=99"}}),
    "weighted": ("1_Pooling/config.json", {"pooling_mode": "weighted"}),
}


@pytest.mark.parametrize("word", REFUSED)
def test_a_value_that_would_change_the_vectors_is_refused_by_its_name(plain, word):
    name, content = REFUSED[word]
    write(plain, name, content)
    with pytest.raises(InputError, match=word) as refused:
        load_encoder(str(plain))
    assert str(plain) in str(refused.value)


DENSE = {"in_features": 32, "out_features": 8, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
REFUSED_MODULES = {
    "use_residual": ("Dense", {**DENSE, "use_residual": True}, "sentence_transformers.models"),
    "module_input_name": ("Dense", {**DENSE, "module_input_name": "token_embeddings"}, "sentence_transformers.models"),
    "module_output_name": ("Dense", {**DENSE, "module_output_name": "other"}, "sentence_transformers.base.modules"),
    "'mine.Swish'": ("Dense", {**DENSE, "activation_function": "mine.Swish"}, "sentence_transformers.models"),
    "custom_st.Normalize": ("Normalize", {}, "custom_st"),
    "pylate.models.Dense": ("Dense", DENSE, "pylate.models"),
    "module_input_name is": ("Normalize", {"module_input_name": "token_embeddings"}, "sentence_transformers.models"),
    "a pooling after another module": ("Pooling", {"pooling_mode": "cls"}, "sentence_transformers.models"),
    "LSTM": ("LSTM", {}, "sentence_transformers.models"),
}


@pytest.mark.parametrize("word", REFUSED_MODULES)
def test_a_module_that_is_not_the_usual_one_is_refused(plain, word):
    add_module(plain, *REFUSED_MODULES[word])
    with pytest.raises(InputError, match=word):
        load_encoder(str(plain))


def test_the_token_head_of_a_multi_vector_model_is_refused_whatever_the_pooling(plain):
    modules = json.loads((plain / "modules.json").read_text())
    write(plain, "modules.json", modules[:1])
    add_module(plain, "Dense", DENSE)
    for pooling in (None, "mean"):
        with pytest.raises(InputError, match="a vector for each token"):
            load_encoder(str(plain), pooling)


def test_harmless_keys_are_let_be_and_unknown_ones_reported(plain):
    harmless = {"unpad_inputs": True, "model_kwargs": {"torch_dtype": "float16", "attn_implementation": "eager"}}
    harmless |= {"tokenizer_args": {"padding_side": "left"}}
    write(plain, "sentence_bert_config.json", {"max_seq_length": 20, **harmless, "config_kwargs": {"use_cache": True}})
    add_module(plain, "Dropout", {"dropout": 0.5})
    requirements = {"transformers": ">=4", "no-such-package": ">=1", "torch": {"specifier": ">=1", "reason": "why"}}
    write(plain, "config_sentence_transformers.json", {"__version__": {}, "requirements": requirements})
    before = vectors(plain)
    assert not reporting.notices()
    write(plain, "sentence_bert_config.json", {"max_seq_length": 20, "colour": "blue"})
    np.testing.assert_array_equal(vectors(plain), before)
    assert [text for text in reporting.notices() if "the key 'colour' is not known" in text]


def test_only_names_values_that_the_check_lets_pass(plain):
    for table, keys in KEYS.items():
        for key, what in keys.items():
            assert not isinstance(what, Only) or (None in what.values and what.meaning), (table, key)


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_another_comparison_than_searches_make_is_reported(plain, name, toy, capsys):
    write(plain, "config_sentence_transformers.json", {"similarity_fn_name": name})
    load_encoder(str(plain))
    (text,) = reporting.notices()
    assert f"by {name}, but they do not have length 1" in text and ("--pooling mean+normalize" in text) == (
        name == "cosine"
    )
    with pytest.raises(SystemExit) as ended:
        main(f"encode --model {plain} --corpus {toy.corpus} --strict -o {toy.folder / 'vectors'}".split())
    assert ended.value.code == 2
    capsys.readouterr()
    add_module(plain, "Normalize", {})
    console.configure("test")
    load_encoder(str(plain))
    assert not reporting.notices() or name == "euclidean"


def test_a_body_in_a_subfolder_is_refused_with_the_next_move(plain):
    modules = json.loads((plain / "modules.json").read_text())
    write(plain, "modules.json", [{**modules[0], "path": "0_Transformer"}, *modules[1:]])
    (plain / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.move(plain / name, plain / "0_Transformer" / name)
    with pytest.raises(InputError, match=r"subfolder '0_Transformer'.*drtools import-model"):
        load_encoder(str(plain))


def test_a_cross_encoder_with_modules_is_a_body_that_asks_for_its_pooling(rankers, tmp_path):
    peer = CrossEncoder(rankers["bert"], prompts={"web": "hill: "}, default_prompt_name="web", device="cpu")
    peer.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    with pytest.raises(InputError, match="use pooling cls"):
        load_encoder(str(tmp_path / "saved"))
    settings = load_encoder(str(tmp_path / "saved"), "cls").settings
    assert settings.query_prompt == settings.document_prompt == "", "a ranker's prompt is no encoder's"
    main(["show", str(tmp_path / "saved")])


def test_a_configuration_without_names_of_outputs_encodes(plain):
    before = vectors(plain)
    config = json.loads((plain / "config.json").read_text()) | {"return_dict": False, "output_hidden_states": True}
    write(plain, "config.json", config)
    np.testing.assert_array_equal(vectors(plain), before)


@pytest.mark.parametrize("kind", ["DPRQuestionEncoder", "DPRContextEncoder"])
def test_dprs_encoders_are_bert_whose_first_token_is_the_vector(bert, kind, tmp_path):
    import transformers

    tokenizer = make_tokenizer(bert, "bert")
    config = make_body("bert", len(tokenizer)).config.to_dict()
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    config = transformers.DPRConfig(**{name: config[name] for name in sizes}, max_position_embeddings=64)
    theirs = spread(getattr(transformers, kind)(config))
    theirs.save_pretrained(tmp_path / "dpr")
    tokenizer.save_pretrained(tmp_path / "dpr")
    with torch.no_grad():
        expected = torch.cat(
            [theirs(**tokenizer(text, return_tensors="pt", truncation=True)).pooler_output for text in TEXTS]
        )
    found = vectors(tmp_path / "dpr")
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    save_encoder(load_encoder(str(tmp_path / "dpr")), tmp_path / "saved")
    np.testing.assert_allclose(vectors(tmp_path / "saved"), found, atol=1e-6)
    check_sides(tmp_path / "saved")


def test_a_dpr_encoder_with_a_projection_and_an_encoder_decoder_are_refused(bert, tmp_path):
    import transformers

    tokenizer = make_tokenizer(bert, "bert")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    dpr = transformers.DPRConfig(vocab_size=len(tokenizer), **small, projection_dim=8)
    bart = transformers.BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    )
    for name, model, message in (
        ("dpr", transformers.DPRContextEncoder(dpr), "a projection to 8 dimensions"),
        ("bart", transformers.BartModel(bart), "an encoder-decoder of type bart"),
    ):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        with pytest.raises(InputError, match=message):
            load_encoder(str(tmp_path / name), "mean")


def test_of_a_whole_t5_the_encoder_is_taken(bert, tmp_path):
    import transformers

    tokenizer = make_tokenizer(bert, "bert")
    sizes = {"vocab_size": len(tokenizer), "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    whole = spread(transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, pad_token_id=0)))
    whole.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    encoder = load_encoder(str(tmp_path / "whole"), "mean")
    ids = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        expected = whole.encoder(input_ids=ids).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(encoder(ids, torch.ones_like(ids)), expected)


@pytest.mark.parametrize("flag", ["--max-document-tokens", "--max-query-tokens"])
def test_a_length_of_special_tokens_alone_is_refused(plain, toy, capsys, flag):
    kind, texts = ("--corpus", toy.corpus) if "document" in flag else ("--queries", toy.queries)
    for length, code in ((2, 2), (3, None)):
        words = ["encode", "--model", str(plain), kind, texts, flag, str(length), "-o", str(toy.folder / "vectors")]
        if code is None:
            main(words)
            continue
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == code and f"{flag} 2: the special tokens of a text alone" in capsys.readouterr().err
