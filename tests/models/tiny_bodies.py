"""Small random bodies of every family, and rankers of them, with the toy words as their vocabulary."""

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
