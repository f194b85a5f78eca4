"""Small random checkpoints as public programs save them, and those programs' own ways from a text to its vector.

The names of tensors, the containers around them and the forward passes are those of the programs named at each maker;
where transformers has the class, it saves the file.
"""

import argparse
import json
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

TEXTS = ["Fox swims", "otter holds a Chisel by the river", "raven", "Hill MEADOW marsh cliff valley lake"]
Change = Callable[[dict[str, torch.Tensor]], None]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@dataclass
class Published:
    """A checkpoint: the words that import it, and by side what its program makes of texts."""

    words: list[object]
    vectors: dict[str, Callable[[list[str]], torch.Tensor]]


def keep(state: dict[str, torch.Tensor]) -> None:
    """Change nothing."""


def random_weights(model: nn.Module, seed: int = 3) -> nn.Module:
    """Draw every weight anew, large enough to tell texts apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
        for layer in model.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.weight.add_(1)  # or a text would hardly be seen behind it
    return model.eval()


def write_roberta_tokenizer(folder: Path) -> None:
    """Write a tokenizer of bytes as roberta-base has it: without a space before the first word."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import RobertaConfig, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = ByteLevelBPETokenizer(add_prefix_space=False)
    made.train_from_iterator([text.lower() for text in TEXTS] * 3, vocab_size=340, special_tokens=special)
    made.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    tokenizer = RobertaTokenizer(tokenizer_object=made._tokenizer, model_max_length=64)
    tokenizer.save_pretrained(folder)
    RobertaConfig(
        vocab_size=made.get_vocab_size(),
        max_position_embeddings=66,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **SIZES,
    ).save_pretrained(folder)


def roberta_ids(folder: Path, texts: list[str], space: bool, lower: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenize as star_tokenizer.py does: in lower case, and with a space before a text that begins with none."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [" " + text if space and not text[0].isspace() else text for text in texts]
    rows = [backend.encode(text.lower() if lower else text).ids for text in texts]
    return padded(rows, 1)


def bert_ids(folder: Path, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenize as BERT's uncased tokenizer does."""
    from transformers import BertTokenizer

    return padded(BertTokenizer.from_pretrained(folder)(list(texts))["input_ids"], 0)


def padded(rows: list[list[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [padding] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


class Dot(nn.Module):
    """RoBERTa, a linear layer and a LayerNorm, by the names of DRhard and ANCE; for JPQ also centroids and rotation."""

    def __init__(self, config, jpq: bool = False) -> None:
        from transformers import RobertaModel

        super().__init__()
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.embeddingHead, self.norm = nn.Linear(32, 32), nn.LayerNorm(32)
        self.jpq = jpq
        if jpq:
            self.centroids = nn.Parameter(torch.zeros(4, 256, 8))
            self.rotation = nn.Parameter(torch.zeros(32, 32))

    def forward(self, ids, mask):
        first = self.roberta(ids, mask).last_hidden_state[:, 0]
        vectors = self.norm(self.embeddingHead(first))
        return vectors @ self.rotation.T if self.jpq else vectors


def _dot_side(model: nn.Module, folder: Path, space: bool = True) -> Callable[[list[str]], torch.Tensor]:
    return lambda texts: model(*roberta_ids(folder, texts, space, lower=True))


def _first_token(body: nn.Module, folder: Path, head: nn.Module | None = None) -> Callable[[list[str]], torch.Tensor]:
    def vectors(texts):
        first = body(*bert_ids(folder, texts)).last_hidden_state[:, 0]
        return head(first) if head is not None else first

    return vectors


def _mean(body: nn.Module, folder: Path, normalize: bool = False) -> Callable[[list[str]], torch.Tensor]:
    def vectors(texts):
        ids, mask = bert_ids(folder, texts)
        states = body(ids, mask).last_hidden_state.masked_fill(mask[..., None] == 0, 0.0)
        mean = states.sum(1) / mask.sum(1)[:, None]
        return nn.functional.normalize(mean, dim=-1) if normalize else mean

    return vectors


def drhard(folder: Path, bert: str, change: Change = keep) -> Published:
    """DRhard's STAR and ADORE: pytorch_model.bin and config.json, without a tokenizer."""
    from transformers import RobertaConfig

    write_roberta_tokenizer(folder / "roberta")
    model = random_weights(Dot(RobertaConfig.from_pretrained(folder / "roberta")))
    state = model.state_dict() | {"roberta.embeddings.position_ids": torch.arange(66)[None]}
    change(state)
    (folder / "star").mkdir()
    config = json.loads((folder / "roberta" / "config.json").read_text()) | {"return_dict": False}
    (folder / "star" / "config.json").write_text(json.dumps(config | {"architectures": ["RobertaDot_InBatch"]}))
    torch.save(state, folder / "star" / "pytorch_model.bin")
    vectors = _dot_side(model, folder / "roberta")
    return Published([folder / "star", "--tokenizer", folder / "roberta"], {"query": vectors, "document": vectors})


def ance(folder: Path, bert: str, change: Change = keep) -> Published:
    """ANCE's first checkpoints: the old format of torch, a pooler and a classifier that nothing uses."""
    from transformers import RobertaConfig

    write_roberta_tokenizer(folder / "ance")
    model = random_weights(Dot(RobertaConfig.from_pretrained(folder / "ance")))
    state = model.state_dict()
    for name in ("roberta.pooler.dense", "classifier.dense", "classifier.out_proj"):
        state |= {f"{name}.weight": torch.ones(32, 32), f"{name}.bias": torch.ones(32)}
    change(state)
    torch.save(state, folder / "ance" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    vectors = _dot_side(model, folder / "ance")
    return Published([folder / "ance"], {"query": vectors, "document": vectors})


def jpq(folder: Path, bert: str, change: Change = keep) -> Published:
    """JPQ's two towers, each with its rotation and the codebook of the index."""
    from transformers import RobertaConfig

    write_roberta_tokenizer(folder / "roberta")
    vectors = {}
    for seed, side in enumerate(("query", "document")):
        model = random_weights(Dot(RobertaConfig.from_pretrained(folder / "roberta"), jpq=True), seed)
        state = model.state_dict()
        change(state)
        (folder / side).mkdir()
        config = json.loads((folder / "roberta" / "config.json").read_text()) | {"MCQ_M": 4, "MCQ_K": 256}
        (folder / side / "config.json").write_text(json.dumps(config))
        torch.save(state, folder / side / "pytorch_model.bin")
        vectors[side] = _dot_side(model, folder / "roberta")
    words = [folder / "query", "--document-checkpoint", folder / "document", "--tokenizer", folder / "roberta"]
    return Published(words, vectors)


def repconc(folder: Path, bert: str, change: Change = keep) -> Published:
    """RepCONC over a BERT with mean pooling and vectors of length 1, as its save_pretrained writes it."""
    from transformers import BertConfig, BertModel

    config = json.loads(Path(bert, "config.json").read_text())
    config |= {"pooling": "mean", "similarity_metric": "METRIC_COS", "MCQ_M": 4, "MCQ_K": 256}
    (folder / "repconc").mkdir()
    (folder / "repconc" / "config.json").write_text(json.dumps(config))
    body = random_weights(BertModel(BertConfig.from_pretrained(bert), add_pooling_layer=False))
    rotation = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(2)))[0]
    state = {f"dense_encoder.bert.{name}": tensor for name, tensor in body.state_dict().items()}
    state |= {"rotation": rotation, "centroids": torch.randn(4, 256, 8)}
    change(state)
    torch.save(state, folder / "repconc" / "pytorch_model.bin")
    mean = _mean(body, Path(bert), normalize=True)
    vectors = {side: lambda texts: mean(texts) @ rotation.T for side in ("query", "document")}
    return Published([folder / "repconc", "--tokenizer", bert], vectors)


def repconc_dot(folder: Path, bert: str, change: Change = keep) -> Published:
    """RepCONC over ANCE's encoder; its tokenizer is the usual one, in lower case."""
    from transformers import RobertaConfig

    write_roberta_tokenizer(folder / "repconc")
    model = random_weights(Dot(RobertaConfig.from_pretrained(folder / "repconc")))
    rotation = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(2)))[0]
    state = {f"dense_encoder.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {"rotation": rotation, "centroids": torch.randn(4, 256, 8)}
    change(state)
    torch.save(state, folder / "repconc" / "pytorch_model.bin")
    plain = _dot_side(model, folder / "repconc", space=False)
    vectors = {side: lambda texts: plain(texts) @ rotation.T for side in ("query", "document")}
    return Published([folder / "repconc"], vectors)


def dpr_hf(folder: Path, bert: str, change: Change = keep, projection: int = 0) -> Published:
    """DPR of transformers, saved by its classes and kept as a pickle; `projection` is that of encode_proj."""
    from transformers import BertTokenizer, DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    small = json.loads(Path(bert, "config.json").read_text())
    config = DPRConfig(**{name: small[name] for name in ("vocab_size", "max_position_embeddings", *SIZES)})
    config.projection_dim = projection
    vectors, kinds = {}, {"query": DPRQuestionEncoder, "document": DPRContextEncoder}
    for seed, (side, kind) in enumerate(kinds.items()):
        model = random_weights(kind(config), seed)
        model.save_pretrained(folder / side)
        from safetensors.torch import load_file

        state = load_file(folder / side / "model.safetensors")
        (folder / side / "model.safetensors").unlink()
        change(state)
        torch.save(state, folder / side / "pytorch_model.bin")
        BertTokenizer.from_pretrained(bert).save_pretrained(folder / side)
        vectors[side] = lambda texts, model=model: model(*bert_ids(Path(bert), texts)).pooler_output
    return Published([folder / "query", "--document-checkpoint", folder / "document"], vectors)


def dpr_projected(folder: Path, bert: str, change: Change = keep) -> Published:
    """DPR of transformers with a projection to 16 dimensions."""
    return dpr_hf(folder, bert, change, projection=16)


def dpr_cp(folder: Path, bert: str, change: Change = keep) -> Published:
    """DPR's own checkpoint: both encoders under model_dict, the optimizer's state and settings beside them."""
    from transformers import BertConfig, BertModel

    bodies = {
        name: random_weights(BertModel(BertConfig.from_pretrained(bert)), seed)
        for seed, name in enumerate(("question_model", "ctx_model"))
    }
    heads = {name: random_weights(nn.Linear(32, 8), 7) for name in bodies}
    state = {}
    for name, body in bodies.items():
        state |= {f"{name}.{each}": tensor for each, tensor in body.state_dict().items()}
        state |= {f"{name}.encode_proj.{each}": tensor for each, tensor in heads[name].state_dict().items()}
        state[f"{name}.embeddings.position_ids"] = torch.arange(64)[None]
    change(state)
    saved = {
        "model_dict": state,
        "optimizer_dict": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-5}]},
        "scheduler_dict": {"last_epoch": 3},
        "offset": 0,
        "epoch": 39,
        "encoder_params": {"pretrained_model_cfg": "bert-base-uncased", "projection_dim": 8, "sequence_length": 256},
    }
    torch.save(saved, folder / "hf_bert_base.cp", _use_new_zipfile_serialization=False)
    sides = {"query": "question_model", "document": "ctx_model"}
    vectors = {side: _first_token(bodies[name], Path(bert), heads[name]) for side, name in sides.items()}
    return Published([folder / "hf_bert_base.cp", "--tokenizer", bert], vectors)


def settings_objects() -> object:
    """Return an object whose class has the name of OmegaConf's, as dpr-scale's checkpoints hold them."""
    module = types.ModuleType("omegaconf.dictconfig")
    made = type("DictConfig", (), {"__module__": module.__name__, "__qualname__": "DictConfig"})
    module.DictConfig = made
    sys.modules["omegaconf"], sys.modules[module.__name__] = types.ModuleType("omegaconf"), module
    value = made()
    value.__dict__.update(_content={"model_path": "bert-base-uncased"}, _parent=None)
    return value


def forget_settings() -> None:
    """Take the stand-in of OmegaConf away again: who reads the file has none."""
    for name in ("omegaconf", "omegaconf.dictconfig"):
        sys.modules.pop(name, None)


def dpr_scale(folder: Path, bert: str, change: Change = keep, shared: bool = False) -> Published:
    """Lightning's checkpoint of dpr-scale (SPAR's Lambdas, DRAGON), its settings as objects of OmegaConf."""
    from transformers import BertConfig, BertModel

    names = {"query": "query_encoder", "document": "context_encoder"}
    state, vectors = {}, {}
    for seed, (side, name) in enumerate(names.items()):
        seed = 0 if shared else seed
        body = random_weights(BertModel(BertConfig.from_pretrained(bert)), seed)
        project = random_weights(nn.Sequential(nn.Linear(32, 16), nn.LayerNorm(16)), seed)
        state |= {f"{name}.transformer.{each}": tensor for each, tensor in body.state_dict().items()}
        state |= {f"{name}.project.{each}": tensor for each, tensor in project.state_dict().items()}
        vectors[side] = _first_token(body, Path(bert), project)
    change(state)
    saved = {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "1.6.4",
        "state_dict": state,
        "callbacks": {"ModelCheckpoint{'monitor': 'valid_mrr'}": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "hyper_parameters": {"model": settings_objects(), "shared_model": shared},
    }
    torch.save(saved, folder / "checkpoint_best.ckpt")
    forget_settings()
    return Published([folder / "checkpoint_best.ckpt", "--tokenizer", bert], vectors)


def dpr_scale_shared(folder: Path, bert: str, change: Change = keep) -> Published:
    """dpr-scale's checkpoint of one encoder under both names."""
    return dpr_scale(folder, bert, change, shared=True)


def spar(folder: Path, bert: str, change: Change = keep) -> Published:
    """SPAR's Lambda of transformers: two plain BERTs, whose first tokens are the vectors."""
    from transformers import BertConfig, BertModel, BertTokenizer

    vectors = {}
    for seed, side in enumerate(("query", "document")):
        body = random_weights(BertModel(BertConfig.from_pretrained(bert)), seed)
        state = body.state_dict()
        change(state)
        body.config.save_pretrained(folder / side)
        BertTokenizer.from_pretrained(bert).save_pretrained(folder / side)
        torch.save(state, folder / side / "pytorch_model.bin")
        vectors[side] = _first_token(body, Path(bert))
    words = [folder / "query", "--document-checkpoint", folder / "document", "--pooling", "cls"]
    return Published(words, vectors)


def contriever(folder: Path, bert: str, change: Change = keep) -> Published:
    """Contriever of transformers: a BERT whose class says that its states are averaged."""
    from transformers import BertConfig, BertModel, BertTokenizer

    body = random_weights(BertModel(BertConfig.from_pretrained(bert)))
    state = body.state_dict()
    change(state)
    BertTokenizer.from_pretrained(bert).save_pretrained(folder / "contriever")
    config = json.loads(Path(bert, "config.json").read_text()) | {"architectures": ["Contriever"]}
    (folder / "contriever" / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "contriever" / "pytorch_model.bin")
    mean = _mean(body, Path(bert))
    return Published([folder / "contriever"], {"query": mean, "document": mean})


def contriever_training(folder: Path, bert: str, change: Change = keep) -> Published:
    """Contriever's checkpoint.pth of MoCo, its settings as a Namespace."""
    from transformers import BertConfig, BertModel

    body = random_weights(BertModel(BertConfig.from_pretrained(bert), add_pooling_layer=False))
    state = {f"encoder_q.{name}": tensor for name, tensor in body.state_dict().items()}
    state |= {f"encoder_k.{name}": tensor + 1 for name, tensor in body.state_dict().items()}
    state |= {"queue": torch.ones(32, 8), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    change(state)
    options = argparse.Namespace(pooling="average", norm_query=False, output_dir=Path("x"))
    torch.save({"step": 3, "model": state, "optimizer": {}, "scheduler": {}, "opt": options}, folder / "checkpoint.pth")
    mean = _mean(body, Path(bert))
    return Published([folder / "checkpoint.pth", "--tokenizer", bert], {"query": mean, "document": mean})


def cocondenser(folder: Path, bert: str, change: Change = keep) -> Published:
    """coCondenser: a masked language model, whose head is of no use, in shards."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    model = random_weights(BertForMaskedLM(BertConfig.from_pretrained(bert)))
    state = {f"bert.{name}": tensor for name, tensor in model.bert.state_dict().items()}
    state |= {f"cls.{name}": tensor for name, tensor in model.cls.state_dict().items()}
    change(state)
    model.config.architectures = ["BertForMaskedLM"]
    model.config.save_pretrained(folder / "condenser")
    BertTokenizer.from_pretrained(bert).save_pretrained(folder / "condenser")
    names = list(state)
    shards = {name: f"pytorch_model-0000{1 + (at % 2)}-of-00002.bin" for at, name in enumerate(names)}
    for shard in sorted(set(shards.values())):
        torch.save({name: state[name] for name in names if shards[name] == shard}, folder / "condenser" / shard)
    index = {"metadata": {}, "weight_map": shards}
    (folder / "condenser" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    first = _first_token(model.bert, Path(bert))
    return Published([folder / "condenser", "--pooling", "cls"], {"query": first, "document": first})


def ddr_dense(folder: Path, bert: str, change: Change = keep) -> Published:
    """DDR's dense models: a BERT whose config.json has the pooling and the similarity; zipped here."""
    from safetensors.torch import save
    from transformers import BertConfig, BertModel

    body = random_weights(BertModel(BertConfig.from_pretrained(bert), add_pooling_layer=False))
    state = {f"bert.{name}": tensor for name, tensor in body.state_dict().items()}
    change(state)
    config = json.loads(Path(bert, "config.json").read_text())
    config |= {"architectures": ["BertDense"], "pooling": "average", "similarity_metric": "cos"}
    with zipfile.ZipFile(folder / "dense.zip", "w") as archive:
        archive.writestr("dense/config.json", json.dumps(config))
        archive.writestr("dense/model.safetensors", save({name: each.clone() for name, each in state.items()}))
    mean = _mean(body, Path(bert), normalize=True)
    return Published([folder / "dense.zip", "--tokenizer", bert], {"query": mean, "document": mean})


# maker: (a tensor of its body, a tensor of its head if it has one)
MAKERS = {
    drhard: ("roberta.encoder.layer.1.output.dense.weight", "norm.bias"),
    ance: ("roberta.encoder.layer.1.output.dense.weight", "embeddingHead.weight"),
    jpq: ("roberta.embeddings.LayerNorm.bias", "norm.weight"),
    repconc: ("dense_encoder.bert.encoder.layer.0.attention.self.query.weight", None),
    repconc_dot: ("dense_encoder.roberta.embeddings.LayerNorm.bias", "dense_encoder.norm.bias"),
    dpr_hf: ("BODY.bert_model.encoder.layer.0.attention.self.key.bias", None),
    dpr_projected: ("BODY.bert_model.encoder.layer.0.attention.self.key.bias", "BODY.encode_proj.bias"),
    dpr_cp: ("ctx_model.encoder.layer.0.attention.self.key.bias", "question_model.encode_proj.weight"),
    dpr_scale: ("query_encoder.transformer.encoder.layer.1.output.LayerNorm.bias", "context_encoder.project.1.bias"),
    dpr_scale_shared: (
        "query_encoder.transformer.encoder.layer.1.output.LayerNorm.bias",
        "query_encoder.project.0.bias",
    ),
    spar: ("encoder.layer.0.intermediate.dense.weight", None),
    contriever: ("embeddings.word_embeddings.weight", None),
    contriever_training: ("encoder_q.encoder.layer.1.attention.output.dense.bias", None),
    cocondenser: ("bert.encoder.layer.1.attention.output.dense.bias", None),
    ddr_dense: ("bert.encoder.layer.0.output.dense.weight", None),
}
