"""Small random bodies of every family, and rankers of them, with the toy words as their vocabulary."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "qwen2", "qwen3", "llama")
RANKED = ("bert", "roberta", "distilbert", "modernbert", "qwen2")
DECODERS = ("qwen2", "qwen3", "llama")


def make_body(family: str, vocabulary: int):
    """Make a body of 2 layers and 32 dimensions."""
    import transformers

    small = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
    }
    decoder = {**small, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 3, "bos_token_id": None}
    configuration = {
        "bert": lambda: transformers.BertConfig(**small),
        "roberta": lambda: transformers.RobertaConfig(**small, pad_token_id=0),
        "distilbert": lambda: transformers.DistilBertConfig(
            vocab_size=vocabulary, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=66
        ),
        "modernbert": lambda: transformers.ModernBertConfig(
            **small,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            cls_token_id=2,
            sep_token_id=3,
            local_attention=8,
            global_attn_every_n_layers=2,
        ),
        "qwen2": lambda: transformers.Qwen2Config(**decoder),
        "qwen3": lambda: transformers.Qwen3Config(**decoder, head_dim=8),
        "llama": lambda: transformers.LlamaConfig(**decoder),
    }[family]()
    return transformers.AutoModel.from_config(configuration)


def make_tokenizer(bert: str, family: str, padding: bool = True):
    """Make the toy tokenizer.

    Encoders' texts start with [CLS] and end with [SEP], decoders' end with [SEP] as their end token.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_file(str(Path(bert) / "tokenizer.json"))
    special = {"unk_token": "[UNK]", **({"pad_token": "[PAD]"} if padding else {})}
    if family in DECODERS:
        backend.post_processor = TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            model_max_length=64,
            eos_token="[SEP]",
            padding_side="left",
            model_input_names=["input_ids", "attention_mask"],
            **special,
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
        **special,
    )


def every_body(vocabulary: int) -> dict[str, Callable]:
    """Return what makes a body of 2 layers and 32 dimensions, by family, with 64 positions where there is a table."""
    import transformers as t

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    common = {"vocab_size": vocabulary, "max_position_embeddings": 64, **small}
    padded = {**common, "pad_token_id": 0}
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    grouped = {**padded, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
    t5 = {"vocab_size": vocabulary, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    gpt = {"vocab_size": vocabulary, "n_layer": 2, "n_head": 4}
    return {
        "bert": lambda: t.BertModel(t.BertConfig(**common)),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**padded)),
        "xlm-roberta": lambda: t.XLMRobertaModel(t.XLMRobertaConfig(**padded)),
        "mpnet": lambda: t.MPNetModel(t.MPNetConfig(**padded)),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(
                vocab_size=vocabulary, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
            )
        ),
        "albert": lambda: t.AlbertModel(t.AlbertConfig(**common, embedding_size=16)),
        "electra": lambda: t.ElectraModel(t.ElectraConfig(**common, embedding_size=16)),
        "deberta-v2": lambda: t.DebertaV2Model(
            t.DebertaV2Config(
                **common, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16, type_vocab_size=0
            )
        ),
        "modernbert": lambda: t.ModernBertModel(
            t.ModernBertConfig(**common, **special, cls_token_id=2, sep_token_id=3, local_attention=8)
        ),
        "t5": lambda: t.T5EncoderModel(t.T5Config(**t5, pad_token_id=0, eos_token_id=3)),
        "gpt2": lambda: t.GPT2Model(t.GPT2Config(**gpt, n_positions=64, n_embd=32)),
        "llama": lambda: t.LlamaModel(t.LlamaConfig(**grouped)),
        "mistral": lambda: t.MistralModel(t.MistralConfig(**grouped, sliding_window=8)),
        "qwen3": lambda: t.Qwen3Model(t.Qwen3Config(**grouped, head_dim=8)),
        "gemma3": lambda: t.Gemma3TextModel(
            t.Gemma3TextConfig(**grouped, head_dim=8, use_bidirectional_attention=True, sliding_window=8)
        ),
        "xlnet": lambda: t.XLNetModel(
            t.XLNetConfig(vocab_size=vocabulary, d_model=32, n_layer=2, n_head=4, d_inner=64)
        ),
        "bigbird": lambda: t.BigBirdModel(t.BigBirdConfig(**common, attention_type="original_full")),
        "longformer": lambda: t.LongformerModel(t.LongformerConfig(**padded, attention_window=8)),
        "roberta-prelayernorm": lambda: t.RobertaPreLayerNormModel(t.RobertaPreLayerNormConfig(**padded)),
        "nystromformer": lambda: t.NystromformerModel(
            t.NystromformerConfig(**common, num_landmarks=16, segment_means_seq_len=16, conv_kernel_size=5)
        ),
        "convbert": lambda: t.ConvBertModel(t.ConvBertConfig(**common, embedding_size=32)),
        "roformer": lambda: t.RoFormerModel(t.RoFormerConfig(**common)),
        "megatron-bert": lambda: t.MegatronBertModel(t.MegatronBertConfig(**common)),
        "luke": lambda: t.LukeModel(t.LukeConfig(**padded, entity_vocab_size=4, entity_emb_size=8)),
        "xmod": lambda: t.XmodModel(t.XmodConfig(**padded, languages=["en_XX"], default_language="en_XX")),
        "esm": lambda: t.EsmModel(
            t.EsmConfig(
                **padded,
                mask_token_id=4,
                position_embedding_type="absolute",
                emb_layer_norm_before=True,
                token_dropout=False,
            )
        ),
        "eurobert": lambda: t.EuroBertModel(t.EuroBertConfig(**padded, num_key_value_heads=2)),
        "nomic-bert": lambda: t.NomicBertModel(t.NomicBertConfig(**common)),
        "bloom": lambda: t.BloomModel(t.BloomConfig(**gpt, hidden_size=32)),
        "opt": lambda: t.OPTModel(
            t.OPTConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                ffn_dim=64,
                max_position_embeddings=64,
                word_embed_proj_dim=32,
                pad_token_id=0,
            )
        ),
        "phi": lambda: t.PhiModel(t.PhiConfig(**common)),
    }


# of `every_body`: those that read to the last token, and those whose names of tensors and configuration are the newest
LAST = ("gpt2", "llama", "mistral", "qwen3", "bloom", "opt", "phi")
EVERY_FAMILY = tuple(every_body(0))
REFUSED = {  # a body that is refused when it is loaded: why
    "funnel": "a Funnel body",
    "bigbird-sparse": "a BigBird body with block_sparse attention",
    "nystromformer-segments": "which only reads texts of 64 tokens",
}


def refused_body(name: str, vocabulary: int):
    """Make a body that cannot be encoded with, by its name in REFUSED."""
    import transformers as t

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    common = {"vocab_size": vocabulary, "max_position_embeddings": 64, **small}
    return {
        "funnel": lambda: t.FunnelBaseModel(
            t.FunnelConfig(vocab_size=vocabulary, block_sizes=[1, 1], d_model=32, n_head=4, d_head=8, d_inner=64)
        ),
        "bigbird-sparse": lambda: t.BigBirdModel(t.BigBirdConfig(**common, block_size=4, num_random_blocks=1)),
        "nystromformer-segments": lambda: t.NystromformerModel(
            t.NystromformerConfig(**common, num_landmarks=4, segment_means_seq_len=64)
        ),
    }[name]()


def spread(body):
    """Let a new body tell texts apart: its matrices are drawn larger, by a seed."""
    import torch

    with torch.no_grad():
        for weight in body.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(weight.numel()))
    return body.eval()


def write_model(folder: Path, body, tokenizer, pooling: str = "mean", **files: dict) -> str:
    """Write a sentence-transformers folder: body, tokenizer, Transformer and Pooling.

    `files` are JSON files beside them, by their names without the ending.
    """
    body.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modes = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooled = {"word_embedding_dimension": body.config.hidden_size}
    pooled |= {f"pooling_mode_{key}": mode == pooling for mode, key in modes.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooled))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def cased_tokenizer(bert: str):
    """Make the toy tokenizer without lower-casing, so that FOX is unknown to it."""
    from tokenizers.normalizers import BertNormalizer

    tokenizer = make_tokenizer(bert, "bert")
    tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    return tokenizer


@pytest.fixture(scope="session")
def lowering_folder(bert, tmp_path_factory) -> str:
    """Write an encoder whose tokenizer keeps case, and whose files ask for lower case."""
    tokenizer = cased_tokenizer(bert)
    return write_model(
        tmp_path_factory.mktemp("lowering") / "model",
        spread(make_body("bert", len(tokenizer))),
        tokenizer,
        sentence_bert_config={"max_seq_length": 48, "do_lower_case": True},
        config_sentence_transformers={"prompts": {"query": "FOX Hill ", "document": ""}, "default_prompt_name": None},
    )


@pytest.fixture(scope="session")
def families(bert, tmp_path_factory) -> dict[str, str]:
    """Write a folder for each family."""
    import torch

    folders = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp("families") / family
        tokenizer = make_tokenizer(bert, family)
        torch.manual_seed(5)
        make_body(family, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[family] = str(folder)
    return folders


@pytest.fixture(scope="session")
def decoder_without_padding(bert, tmp_path_factory) -> str:
    """Write a decoder whose tokenizer has an end token and no padding token."""
    folder = tmp_path_factory.mktemp("families") / "unpadded"
    tokenizer = make_tokenizer(bert, "llama", padding=False)
    make_body("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def rankers(families, bert, tmp_path_factory):
    """Write a ranker for each family, its head random and large enough to see, and one with two outputs."""
    import torch

    from drtools.models.cross_encoder import new_cross_encoder, save_cross_encoder

    folders = {}
    for family in (*RANKED, "two"):
        encoder = new_cross_encoder(bert if family in ("bert", "two") else families[family], seed=3)
        if family == "two":
            from transformers import AutoModelForSequenceClassification

            encoder.model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2).eval()
        with torch.no_grad():
            for name, parameter in encoder.model.named_parameters():
                if not name.startswith(encoder.model.base_model_prefix):
                    parameter.normal_(generator=torch.Generator().manual_seed(1))
                elif parameter.dim() == 2:
                    parameter.mul_(8)  # or every text would end in nearly the same state
        folders[family] = str(tmp_path_factory.mktemp("rankers") / family)
        save_cross_encoder(encoder, Path(folders[family]))
    return folders
