"""Small random models that write texts, with a tokenizer of bytes that knows line breaks."""

from pathlib import Path

from conftest import WORDS


def byte_tokenizer(folder: Path, ends: bool):
    """Return a byte-level tokenizer trained on the toy words; `ends` adds the end token to each text, as T5's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), "Document: Query:\n\n"] * 5, trainer)
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def make_t5(folder: Path, seed: int = 0) -> str:
    """Write a random T5 of two layers."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = byte_tokenizer(folder, ends=True)
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer) + 3,  # more rows than tokens, as T5 has
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return _saved(T5ForConditionalGeneration(config), tokenizer, folder)


def make_causal(folder: Path, seed: int = 0, positions: int = 256) -> str:
    """Write a random GPT-2 of two layers."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_tokenizer(folder, ends=False)
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=positions, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1
    )
    return _saved(GPT2LMHeadModel(config), tokenizer, folder)


def _saved(model, tokenizer, folder: Path) -> str:
    import torch

    with torch.no_grad():  # larger weights: what is written differs from text to text
        for weight in model.parameters():
            weight.mul_(4.0 if weight.dim() > 1 else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
