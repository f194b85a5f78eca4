"""Encoders that are language models: instructions, last-token pooling, end tokens, padding, precision, LoRA folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.loader import load_for_encoding, load_named
from drtools.models.specs import EncoderSpec
from tests.models.test_cross_encoder import logits_of
from tests.models.tiny_encoders import (
    WEB,
    encoder_files,
    write_lora,
    write_qwen3_embedding,
)
from tests.models.tiny_rankers import GROUPED, SENTENCES, llama_tokenizer, spread, write

TEXTS = ["fox", "river hunts otter sleeps", "hammer vise 7, anvil", *SENTENCES[:4]]
CPU = Compute("cpu", "fp32", 512)


@pytest.fixture(scope="module")
def embedders(tmp_path_factory) -> dict[str, Path]:
    """Write models in the form of Qwen3-Embedding with each side of padding, and one in that of e5-mistral."""
    import transformers as t

    root, found = tmp_path_factory.mktemp("embedders"), {}
    for side in ("left", "right"):
        found[side] = write_qwen3_embedding(root / side, side)
    tokenizer = llama_tokenizer(pad_token="<unk>")
    config = t.MistralConfig(**GROUPED, vocab_size=len(tokenizer), max_position_embeddings=256, sliding_window=8)
    files = encoder_files({"web_search_query": f"Instruct: {WEB}\nQuery: "})
    found["mistral"] = write(root / "mistral", spread(t.MistralModel(config)), tokenizer, **files)
    path = found["mistral"] / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_eos_token": True}))
    return found


def vectors(folder, side: str, computing: Compute = CPU, **more):
    encoder = load_for_encoding(EncoderSpec(model=str(folder), **more), computing, side)
    return encode_texts(encoder, TEXTS, side, computing)[0]


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_qwen3_embedding_gives_the_vectors_of_its_peer(embedders, padding):
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(embedders[padding]), device="cpu").float()
    for side, encode in (("query", peer.encode_query), ("document", peer.encode_document)):
        np.testing.assert_allclose(vectors(embedders[padding], side), encode(TEXTS), atol=1e-5)
    told = vectors(embedders[padding], "query", query_instruction="Find tools")
    np.testing.assert_allclose(told, peer.encode(TEXTS, prompt="Instruct: Find tools\nQuery:"), atol=1e-5)
    assert np.abs(told - vectors(embedders[padding], "query")).max() > 0.01
    np.testing.assert_array_equal(vectors(embedders["left"], "query"), vectors(embedders["right"], "query"))


def test_an_instruction_needs_no_prompt_in_the_files_and_no_second_one(embedders):
    encoder = load_named(EncoderSpec(model=str(embedders["mistral"]), query_instruction="Find tools"))
    assert encoder.settings.query_prompt == "Instruct: Find tools\nQuery: "
    with pytest.raises(InputError, match="query_instruction with query_prompt"):
        EncoderSpec(model="x", query_instruction="Find tools", query_prompt="query: ")


def test_the_end_token_that_the_files_ask_for_becomes_the_vector(embedders):
    from transformers import AutoModel, AutoTokenizer

    folder = embedders["mistral"]
    body, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokenizer.add_eos_token = False
    rows = []
    for text in TEXTS:
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            rows.append(body(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])
    expected = torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()
    np.testing.assert_allclose(vectors(folder, "document"), expected, atol=1e-5)


def test_weights_are_loaded_in_the_precision_that_they_compute_in(embedders, monkeypatch):
    from transformers import AutoModel

    asked, plain = [], AutoModel.from_pretrained

    def noted(*words, **named):
        asked.append(named["dtype"])
        return plain(*words, **named)

    monkeypatch.setattr(AutoModel, "from_pretrained", noted)
    encoder = load_for_encoding(EncoderSpec(model=str(embedders["left"])), Compute("cpu", "bf16", 512), "document")
    assert asked == [torch.bfloat16]
    written = load_file(embedders["left"] / "model.safetensors")
    for name, weight in encoder.body.named_parameters():
        assert weight.dtype == torch.bfloat16 and torch.equal(weight, written[name])
    assert encoder.body.rotary_emb.inv_freq.dtype == torch.float32, "far positions would be confused"
    rough, exact = (
        vectors(embedders["left"], "document", Compute("cpu", precision, 512)) for precision in ("bf16", "fp32")
    )
    assert 1e-6 < np.abs(rough - exact).max() < 0.1


@pytest.fixture
def lora(embedders, tmp_path) -> Path:
    """Let peft make, fill and save a LoRA on a model in the form of Qwen3-Embedding."""
    made = write_lora(tmp_path / "lora", str(embedders["left"]))
    made.merge_and_unload().save_pretrained(tmp_path / "peft")
    for name in ("modules.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"):
        shutil.copy(embedders["left"] / name, tmp_path / "peft" / name)
    shutil.copy(embedders["left"] / "config_sentence_transformers.json", tmp_path / "peft")
    shutil.copytree(embedders["left"] / "1_Pooling", tmp_path / "peft" / "1_Pooling")
    return tmp_path / "lora"


def test_a_lora_folder_is_loaded_onto_the_base_that_it_names(embedders, lora, drtools, toy, tmp_path):
    expected = vectors(tmp_path / "peft", "query")
    assert np.abs(vectors(embedders["left"], "query") - expected).max() > 0.01
    np.testing.assert_allclose(vectors(lora, "query"), expected, atol=1e-5)
    before = load_named(EncoderSpec(model=str(lora))).side_fingerprints()
    assert before == load_named(EncoderSpec(model=str(lora))).side_fingerprints()
    config = lora / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 6}))
    assert load_named(EncoderSpec(model=str(lora))).side_fingerprints() != before
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 12}))
    done = drtools("merge", "--model", lora, "-o", tmp_path / "merged")
    assert done.status == 0, done.err
    np.testing.assert_allclose(vectors(tmp_path / "merged", "query"), expected, atol=1e-5)
    done = drtools("encode", "--model", lora, "--corpus", toy.corpus, "--precision", "fp32", "-o", tmp_path / "vectors")
    assert done.status == 0, done.err


def test_tensors_of_a_lora_without_a_place_are_named(lora):
    file = lora / "adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.elsewhere.lora_A.weight": torch.ones(2, 2)}, file)
    with pytest.raises(InputError, match=r"holds 1 tensor that its base model has no place for .*elsewhere"):
        load_named(EncoderSpec(model=str(lora)))


def test_the_lora_of_a_classifier_is_a_ranker_by_its_name(drtools, tmp_path):
    """RankLLaMA is published so: a LoRA with the classifier's head, for a model that predicts tokens."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    tokenizer = llama_tokenizer(pad_token="<unk>")
    config = LlamaConfig(**GROUPED, vocab_size=len(tokenizer), max_position_embeddings=512, pad_token_id=0)
    base = write(tmp_path / "Llama-2-7b-hf", spread(LlamaForCausalLM(config)), tokenizer)
    whole = LlamaForSequenceClassification.from_pretrained(base, num_labels=1)
    made = get_peft_model(
        whole, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS")
    )
    with torch.no_grad():
        for number, (name, weight) in enumerate(made.named_parameters()):
            if "lora_" in name or "score" in name:
                weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(number))
    lora = tmp_path / "rankllama-v1-7b-lora-passage"
    made.save_pretrained(lora)
    encoder = load_cross_encoder(str(lora))
    pairs = [("fox hunts", "the fox swims"), ("river", "anvil chisel lathe"), ("hill", "meadow")]
    for (query, document), score in zip(pairs, logits_of(encoder, pairs), strict=True):
        texts = (f"query: {query}", f"document: {document}")
        ids = [
            number
            for text in texts
            for number in (tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"])
        ]
        with torch.no_grad():
            np.testing.assert_allclose(made.eval()(input_ids=torch.tensor([ids])).logits, [[score]], atol=1e-5)
    assert drtools("merge", "--model", lora, "-o", tmp_path / "merged").status == 0
    merged = load_cross_encoder(str(tmp_path / "merged"))
    np.testing.assert_allclose(logits_of(merged, pairs), logits_of(encoder, pairs), atol=1e-5)
