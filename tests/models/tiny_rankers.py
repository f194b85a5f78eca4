"""Small random language models that score pairs, of exactly the architectures and tokenizers of published families.

Their tokenizers are the families' own classes, made in memory with a small vocabulary.
"""

import json
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import WORDS

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
GROUPED = {**SMALL, "num_key_value_heads": 2}
CHATML = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
# the published chat template of Qwen3-Reranker's files for sentence-transformers, in its form
QWEN3_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first | "
    "default('Given a web search query, retrieve relevant passages that answer the query') }}\n"
    "<Query>: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    "<Document>: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
SENTENCES = [
    *(" ".join(WORDS[start : start + 8]) for start in range(0, len(WORDS), 3)),
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided",
    "Given a web search query, retrieve relevant passages that answer the query",
    "yes no yes no Yes No true false system user assistant query document instruction Query Document Relevant",
]


@cache
def bpe(bytes_too: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Learn a vocabulary and its merges, of bytes as Qwen has them, or of letters with `▁` for a space."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if bytes_too else pre_tokenizers.Metaspace("▁", "never")
    )
    letters = pre_tokenizers.ByteLevel.alphabet() if bytes_too else [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=[*letters, "▁"], show_progress=False)
    learner.train_from_iterator([*SENTENCES, *(["yes", "Yes", "no", "No"] * 40)], trainer)
    model = json.loads(learner.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def sentencepiece_vocabulary(special: list[str]) -> dict[str, int]:
    """Return the letters' vocabulary behind special tokens and the tokens of single bytes."""
    learnt = [token for token in bpe(False)[0] if token not in special]
    whole = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *learnt]
    return {token: number for number, token in enumerate(whole)}


def qwen_tokenizer(**more):
    from transformers import Qwen2Tokenizer

    vocabulary, merges = bpe(True)
    tokenizer = Qwen2Tokenizer(vocab=dict(vocabulary), merges=list(merges), model_max_length=256, **more)
    tokenizer.add_tokens(list(CHATML), special_tokens=True)
    return tokenizer


def gemma_tokenizer():
    from transformers import GemmaTokenizer

    vocabulary = sentencepiece_vocabulary(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    return GemmaTokenizer(vocab=vocabulary, merges=list(bpe(False)[1]), model_max_length=256, padding_side="left")


def llama_tokenizer(**more):
    """Make the tokenizer of Llama and Mistral, which puts <s> before each text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import LlamaTokenizer

    vocabulary = sentencepiece_vocabulary(["<unk>", "<s>", "</s>"])
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=list(bpe(False)[1]), model_max_length=256, **more)
    pair, special = "<s> $A <s>:1 $B:1", [("<s>", vocabulary["<s>"])]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", pair=pair, special_tokens=special)
    return tokenizer


def t5_tokenizer():
    from transformers import T5Tokenizer

    words = ["Query:", "Document:", "Relevant:", "true", "false", *WORDS]
    pieces = [*(f"▁{word}" for word in words), "▁", *(chr(code) for code in range(33, 127))]
    scored = [(piece, -2.0 if len(piece) > 2 else -9.0) for piece in dict.fromkeys(pieces)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=256)


def spread(model, scale: float = 0.25):
    """Draw a model's matrices so large that its scores differ, by a seed."""
    import torch

    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            if weight.dim() > 1:
                weight.normal_(0, scale, generator=torch.Generator().manual_seed(number))
    return model.eval()


def write(folder: Path, model, tokenizer, **files: object) -> Path:
    """Write a model with its tokenizer, and JSON files beside them, by their paths with `__` for a slash."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def score_files(true: int, false: int | None, chat: bool, prompt: str | None = None) -> dict[str, object]:
    """Return the files of sentence-transformers' CrossEncoder of a causal language model, in their published form."""
    base, forward = "sentence_transformers.", {"method": "forward", "method_output_name": "logits"}
    kinds = [
        ("", "base.modules.transformer.Transformer"),
        ("1_LogitScore", "cross_encoder.modules.logit_score.LogitScore"),
    ]
    return {
        "modules": [
            {"idx": at, "name": str(at), "path": path, "type": base + kind} for at, (path, kind) in enumerate(kinds)
        ],
        "sentence_bert_config": {
            "transformer_task": "text-generation",
            "modality_config": {"text": forward, **({"message": {**forward, "format": "flat"}} if chat else {})},
            "module_output_name": "causal_logits",
        },
        "config_sentence_transformers": {
            "model_type": "CrossEncoder",
            "activation_fn": "torch.nn.modules.linear.Identity",
            "prompts": {"query": prompt} if prompt else {},
            "default_prompt_name": "query" if prompt else None,
        },
        "1_LogitScore__config": {"true_token_id": true, "false_token_id": false},
    }


def qwen(kind: str, tokenizer, **more):
    import transformers as t

    config = {
        **GROUPED,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        **more,
    }
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    if kind == "qwen3":
        return spread(t.Qwen3ForCausalLM(t.Qwen3Config(**config, **special, head_dim=8)))
    return spread(t.Qwen2ForCausalLM(t.Qwen2Config(**config, **special)))


@pytest.fixture(scope="session")
def qwen3_reranker(tmp_path_factory) -> Path:
    """Write a model with the files that Qwen3-Reranker had first: a causal model, and a template for talks."""
    return write_qwen3_reranker(tmp_path_factory.mktemp("qwen3") / "Qwen3-Reranker-0.6B")


def write_qwen3_reranker(folder: Path) -> Path:
    """Write a causal model with a template for talks."""
    tokenizer = qwen_tokenizer(padding_side="left")
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}{% endif %}{% endfor %}"
    )
    return write(folder, qwen("qwen3", tokenizer), tokenizer)


@pytest.fixture(scope="session")
def chat_reranker(tmp_path_factory) -> Path:
    """Write a model with the files for sentence-transformers that Qwen3-Reranker has now."""
    tokenizer = qwen_tokenizer(padding_side="left")
    tokenizer.chat_template = QWEN3_TEMPLATE
    true, false = (tokenizer.get_vocab()[word] for word in ("yes", "no"))
    files = score_files(true, false, True, "Given a hunt, retrieve the animals that hunt")
    return write(tmp_path_factory.mktemp("chat") / "reranker", qwen("qwen3", tokenizer), tokenizer, **files)


@pytest.fixture(scope="session")
def families_of_rankers(tmp_path_factory) -> dict[str, Path]:
    """Write a model of each family that is known by its name, under that name."""
    return write_families(tmp_path_factory.mktemp("known"))


def write_families(root: Path) -> dict[str, Path]:
    """Write a model of each family that is known by its name into a folder."""
    import transformers as t

    found = {}
    tokenizer = qwen_tokenizer(padding_side="left")
    found["mxbai"] = write(root / "mxbai-rerank-base-v2", qwen("qwen2", tokenizer), tokenizer)
    tokenizer = gemma_tokenizer()
    config = {**GROUPED, "vocab_size": len(tokenizer), "max_position_embeddings": 512, "head_dim": 8}
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    gemma = t.GemmaForCausalLM(t.GemmaConfig(**config, **special))
    found["gemma"] = write(root / "bge-reranker-v2-gemma", spread(gemma), tokenizer)
    tokenizer = t5_tokenizer()
    small = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": len(tokenizer)}
    t5 = t.T5ForConditionalGeneration(t.T5Config(**small, decoder_start_token_id=0))
    found["monot5"] = write(root / "monot5-base-msmarco", spread(t5), tokenizer)
    tokenizer = llama_tokenizer(pad_token="<unk>")
    config = {**GROUPED, "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    llama = t.LlamaForSequenceClassification(t.LlamaConfig(**config, pad_token_id=0, num_labels=1))
    found["rankllama"] = write(root / "rankllama-v1-7b-merged", spread(llama), tokenizer)
    found["minicpm"] = write_minicpm(root / "bge-reranker-v2-minicpm-layerwise")
    return found


def write_minicpm(folder: Path) -> Path:
    """Write weights and config.json with the names that the published layerwise model has."""
    import torch
    from safetensors.torch import save_file

    tokenizer = llama_tokenizer(padding_side="right")
    tokenizer.save_pretrained(folder)
    sides = {"self_attn.q_proj": (32, 32), "self_attn.k_proj": (32, 32), "self_attn.v_proj": (32, 32)}
    sides |= {
        "self_attn.o_proj": (32, 32),
        "mlp.gate_proj": (64, 32),
        "mlp.up_proj": (64, 32),
        "mlp.down_proj": (32, 64),
    }
    shapes = {"model.embed_tokens": (len(tokenizer), 32), "model.norm": (32,)}
    for layer in range(4):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in sides.items()}
        shapes |= {f"model.layers.{layer}.{name}": (32,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes |= {f"lm_head.{number}.linear_head": (1, 32) for number in range(3)}  # above the layers 2, 3 and 4
    drawn = torch.Generator().manual_seed(3)
    weights = {
        f"{name}.weight": torch.randn(shape, generator=drawn) * 0.3 + (len(shape) == 1)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    code = "configuration_minicpm_reranker.LayerWiseMiniCPMConfig"
    config = {
        "architectures": ["LayerWiseMiniCPMForCausalLM"],
        "auto_map": {"AutoConfig": code},
        "model_type": "minicpm",
        **{"attention_bias": False, "bos_token_id": 1, "eos_token_id": 2, "dim_model_base": 16, "hidden_act": "silu"},
        **{"head_multi": True, "head_type": "simple", "hidden_size": 32, "intermediate_size": 64, "start_layer": 2},
        **{"max_position_embeddings": 256, "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 4},
        **{"rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0, "scale_depth": 1.4, "scale_emb": 12},
        "vocab_size": len(tokenizer),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
