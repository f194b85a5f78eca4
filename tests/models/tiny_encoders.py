"""Small random encoders that are language models, in the published form of Qwen3-Embedding, and a LoRA on one."""

import json
from pathlib import Path

from tests.models.tiny_rankers import GROUPED, qwen_tokenizer, spread, write

WEB = "Given a web search query, retrieve relevant passages that answer the query"


def modules_of(*kinds: str) -> list[dict[str, object]]:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    return [
        {"idx": at, "name": str(at), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
        for at, kind in enumerate(kinds)
    ]


def encoder_files(prompts: dict[str, str]) -> dict[str, object]:
    return {
        "modules": modules_of("Transformer", "Pooling", "Normalize"),
        "1_Pooling__config": {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True},
        "config_sentence_transformers": {"prompts": prompts, "default_prompt_name": None},
        "sentence_bert_config": {"max_seq_length": 64, "do_lower_case": False},
    }


def ending_qwen_tokenizer(padding_side: str):
    """Make the tokenizer of Qwen3-Embedding, which appends <|endoftext|> to each text."""
    from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing

    tokenizer = qwen_tokenizer(padding_side=padding_side)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    template = TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)])
    tokenizer.backend_tokenizer.post_processor = Sequence([ByteLevel(trim_offsets=False), template])
    return tokenizer


def write_qwen3_embedding(folder: Path, padding_side: str, positions: int = 256) -> Path:
    """Write a model in the form of Qwen3-Embedding, in bfloat16."""
    import torch
    import transformers as t

    tokenizer = ending_qwen_tokenizer(padding_side)
    config = t.Qwen3Config(**GROUPED, head_dim=8, vocab_size=len(tokenizer), max_position_embeddings=positions)
    files = encoder_files({"query": f"Instruct: {WEB}\nQuery:", "document": ""})
    return write(folder, spread(t.Qwen3Model(config)).to(torch.bfloat16), tokenizer, **files)


def write_lora(folder: Path, base: str):
    """Let peft make and save a LoRA on a base model, which is named in its configuration. Returns peft's model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    config = LoraConfig(
        r=4, lora_alpha=12, target_modules=["q_proj", "v_proj", "up_proj"], base_model_name_or_path=base
    )
    made = get_peft_model(AutoModel.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for number, (name, weight) in enumerate(made.named_parameters()):
            if "lora_" in name:
                weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(number))
    made.save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    return made
