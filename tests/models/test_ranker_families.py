"""Families of language models that score pairs, known by their names, beside formulas written here for each."""

import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_cross_encoder import logits_of
from test_language_rankers import DOCUMENTS, PAIRS, same

from drtools.errors import InputError
from drtools.models.cpu import rows
from drtools.models.cpu.rows import Blocks
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.pair_tokens import tokenize_pairs
from drtools.models.specs import ReadingSpec

BGE_TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 "
    "for not relevant, 1 for relevant).\nRelevance:"
)


def tokenizer_of(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def joined(tokenizer, *parts: str) -> list[int]:
    """Return the tokens of parts that are tokenized separately."""
    return [number for part in parts for number in tokenizer(part, add_special_tokens=False)["input_ids"]]


def last_logits(folder, rows: list[list[int]]) -> torch.Tensor:
    """Return the logits after each text, computed one text at a time."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows])


def bge_rows(tokenizer) -> list[list[int]]:
    bos = tokenizer.bos_token_id
    return [
        [bos, *joined(tokenizer, f"A: {query}", "\n", f"B: {document}", "\n", BGE_TASK)] for query, document in PAIRS
    ]


def test_bge_reranker_v2_gemma_scores_by_the_logit_of_yes(families_of_rankers):
    folder = families_of_rankers["gemma"]
    tokenizer = tokenizer_of(folder)
    yes = tokenizer("Yes", add_special_tokens=False)["input_ids"][0]
    same(logits_of(load_cross_encoder(str(folder)), PAIRS), last_logits(folder, bge_rows(tokenizer))[:, yes].numpy())


@pytest.mark.parametrize("instruction", [None, "Find tools"])
def test_mxbai_rerank_v2_scores_by_the_difference_of_1_and_0(families_of_rankers, instruction):
    folder = families_of_rankers["mxbai"]
    tokenizer = tokenizer_of(folder)
    prefix = (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
    )
    suffix = "<|im_end|>\n<|im_start|>assistant\n"
    asked = f"instruction: {instruction}\n" if instruction else ""
    rows = [
        joined(tokenizer, prefix, f"{asked}query: {query}", "\n", f"document: {document}", "\n", MXBAI_TASK, suffix)
        for query, document in PAIRS
    ]
    one, zero = (tokenizer(digit, add_special_tokens=False)["input_ids"][0] for digit in "10")
    logits = last_logits(folder, rows)
    encoder = load_cross_encoder(str(folder), reading=ReadingSpec(instruction=instruction))
    same(logits_of(encoder, PAIRS), (logits[:, one] - logits[:, zero]).numpy())


def test_monot5_scores_by_the_first_token_of_its_decoder(families_of_rankers):
    from transformers import T5ForConditionalGeneration

    folder = families_of_rankers["monot5"]
    tokenizer = tokenizer_of(folder)
    model = T5ForConditionalGeneration.from_pretrained(folder).eval()
    batch = tokenizer([f"Query: {q} Document: {d} Relevant:" for q, d in PAIRS], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch, decoder_input_ids=torch.zeros(len(PAIRS), 1, dtype=torch.long)).logits[:, 0]
    chosen = logits[:, tokenizer.convert_tokens_to_ids(["▁false", "▁true"])]
    ours = torch.from_numpy(logits_of(load_cross_encoder(str(folder)), PAIRS))
    same(torch.nn.functional.logsigmoid(ours).numpy(), chosen.log_softmax(dim=1)[:, 1].numpy())
    with pytest.raises(InputError, match="the template of this model has no place for an instruction"):
        load_cross_encoder(str(folder), reading=ReadingSpec(instruction="Find tools"))


def test_a_monot5_with_pickled_weights_as_it_is_published(families_of_rankers, tmp_path, cache):
    folder = tmp_path / "monot5-small-msmarco"
    shutil.copytree(families_of_rankers["monot5"], folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    expected = logits_of(load_cross_encoder(str(families_of_rankers["monot5"])), PAIRS)
    np.testing.assert_array_equal(logits_of(load_cross_encoder(str(folder)), PAIRS), expected)


def test_rankllama_reads_two_texts_with_a_first_token_each(families_of_rankers):
    from transformers import AutoModelForSequenceClassification

    folder = families_of_rankers["rankllama"]
    tokenizer, model = tokenizer_of(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = []
    for query, document in PAIRS:
        bos = [tokenizer.bos_token_id]
        ids = [*bos, *joined(tokenizer, f"query: {query}"), *bos, *joined(tokenizer, f"document: {document}")]
        with torch.no_grad():
            scores.append(float(model(input_ids=torch.tensor([ids])).logits[0, 0]))
    same(logits_of(load_cross_encoder(str(folder)), PAIRS), np.array(scores))
    with pytest.raises(InputError, match="has a head of its own for scores"):
        load_cross_encoder(str(folder), reading=ReadingSpec(score_tokens="yes,no"))


def minicpm_score(weights: dict[str, torch.Tensor], ids: list[int], layer: int) -> float:
    """Compute one score with the formulas of MiniCPM: Llama with scaled embeddings and scaled residuals."""

    def normed(states: torch.Tensor, name: str) -> torch.Tensor:
        return states * (states.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * weights[f"{name}.weight"]

    def turned(states: torch.Tensor) -> torch.Tensor:  # [T, heads, 8]
        angles = torch.arange(len(ids))[:, None] / 10000.0 ** (torch.arange(0, 8, 2) / 8)
        cos, sin = (part.repeat(1, 2)[:, None] for part in (angles.cos(), angles.sin()))
        return states * cos + torch.cat([-states[..., 4:], states[..., :4]], dim=-1) * sin

    states, share = weights["model.embed_tokens.weight"][ids] * 12, 1.4 / math.sqrt(4)
    for number in range(layer):
        name = f"model.layers.{number}"
        before = normed(states, f"{name}.input_layernorm")
        query, key, value = (
            (before @ weights[f"{name}.self_attn.{part}_proj.weight"].T).view(len(ids), 4, 8) for part in "qkv"
        )
        scores = torch.einsum("ihd,jhd->hij", turned(query), turned(key)) / math.sqrt(8)
        scores = scores.masked_fill(torch.ones(len(ids), len(ids)).triu(1).bool(), float("-inf"))
        mixed = torch.einsum("hij,jhd->ihd", scores.softmax(-1), value).reshape(len(ids), 32)
        states = states + share * (mixed @ weights[f"{name}.self_attn.o_proj.weight"].T)
        before = normed(states, f"{name}.post_attention_layernorm")
        gate, up = (before @ weights[f"{name}.mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        states = states + share * ((torch.nn.functional.silu(gate) * up) @ weights[f"{name}.mlp.down_proj.weight"].T)
    return float(normed(states, "model.norm")[-1] @ weights[f"lm_head.{layer - 2}.linear_head.weight"][0])


@pytest.mark.parametrize("layer", [None, 2, 3])
def test_a_layerwise_minicpm_scores_by_the_head_above_a_layer(families_of_rankers, layer):
    folder = families_of_rankers["minicpm"]
    weights, rows = load_file(folder / "model.safetensors"), bge_rows(tokenizer_of(folder))
    encoder = load_cross_encoder(str(folder), reading=ReadingSpec(score_layer=layer))
    assert len(encoder.body.layers) == (layer or 4)
    same(logits_of(encoder, PAIRS), np.array([minicpm_score(weights, row, layer or 4) for row in rows]))


def test_layers_without_a_head_are_refused_and_each_has_its_fingerprint(families_of_rankers):
    folder = str(families_of_rankers["minicpm"])
    with pytest.raises(InputError, match="it has heads above the layers 2 to 4"):
        load_cross_encoder(folder, reading=ReadingSpec(score_layer=1))
    with pytest.raises(InputError, match="has no heads above its layers"):
        load_cross_encoder(str(families_of_rankers["mxbai"]), reading=ReadingSpec(score_layer=2))
    readings = [ReadingSpec(score_layer=layer) for layer in (2, 3, 4)]
    assert len({load_cross_encoder(folder, reading=reading).fingerprint() for reading in readings}) == 3


@pytest.mark.parametrize("family", ["gemma", "mxbai", "monot5", "rankllama", "minicpm"])
def test_heads_stay_in_float32_above_a_body_in_bfloat16_where_rows_need_blocks(
    families_of_rankers, family, monkeypatch
):
    found = []
    for blocks in (None, Blocks(6, 48)):
        monkeypatch.setattr(rows, "blocks_of", lambda inputs, outputs, blocks=blocks: blocks)
        encoder = load_cross_encoder(str(families_of_rankers[family]))
        found.append(logits_of(encoder, PAIRS, "bf16"))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_the_end_of_each_familys_template_is_kept(families_of_rankers):
    long = " ".join(DOCUMENTS * 40)
    for name, end in {"gemma": "'No'.", "mxbai": "<|im_start|>assistant\n", "monot5": "Relevant:</s>"}.items():
        encoder = load_cross_encoder(str(families_of_rankers[name]))
        tokens = tokenize_pairs(encoder, [("fox", long)])
        assert tokens.truncated == 1 and tokens.lengths[0] == encoder.longest_pair, name
        assert encoder.tokenizer.decode(tokens.flat.tolist()).endswith(end), name
