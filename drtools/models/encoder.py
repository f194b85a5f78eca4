"""A dense encoder: a Hugging Face body, pooling and a head; loaded from any encoder's folder, saved so that all can load it."""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from drtools.errors import UserError
from drtools.models.pooling import pool
from drtools.models.settings import OURS, POOLINGS, EncoderSettings, fingerprints, ours_as_json, read_settings
from drtools.models.source import resolve

ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU, "Sigmoid": nn.Sigmoid}


class Normalize(nn.Module):
    """Scale vectors to length 1."""

    def forward(self, vectors: Tensor) -> Tensor:  # [B, D] -> [B, D]
        """Divide each row by its length."""
        return nn.functional.normalize(vectors, dim=-1)


class Encoder(nn.Module):
    """Token ids -> vectors. `folder` is where its weights were loaded from."""

    def __init__(self, body: nn.Module, tokenizer: object, settings: EncoderSettings, head: nn.Sequential, folder: Path | None = None) -> None:
        super().__init__()
        self.body, self.tokenizer, self.settings, self.head, self.folder = body, tokenizer, settings, head, folder

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        sizes = [layer["out"] for layer in self.settings.head if layer["kind"] == "dense"]
        return sizes[-1] if sizes else self.body.config.hidden_size * len(self.settings.pooling)

    def side_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each side: the weights as they were loaded, the settings as they are."""
        return fingerprints(self.folder, self.settings)

    def forward(self, token_ids: Tensor, mask: Tensor, prompt_tokens: int = 0) -> Tensor:  # [B, T], [B, T] -> [B, D]
        """Return float32 vectors; the first `prompt_tokens` of a text are read but not pooled."""
        everything = bool(mask.all())
        # without padding the mask says nothing, and attention without one is faster
        states = self.body(input_ids=token_ids, attention_mask=None if everything else mask).last_hidden_state
        if prompt_tokens:
            mask = mask.clone()
            mask[:, :prompt_tokens] = 0
        with torch.autocast(states.device.type, enabled=False):
            return self.head(pool(states, mask, self.settings.pooling))


def _head(settings: EncoderSettings, folder: Path | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for description in settings.head:
        if description["kind"] == "normalize":
            layers.append(Normalize())
            continue
        state = _layer_state(folder / description["path"]) if folder else None
        if description["kind"] == "layer-norm":
            layer = nn.LayerNorm(description["dimension"])
            inner = [layer]
        else:
            if description["activation"] not in ACTIVATIONS:
                raise UserError(f"{folder}: a head with the activation {description['activation']!r} is not supported; supported are {', '.join(ACTIVATIONS)}")
            layer = nn.Linear(description["in"], description["out"], bias=description["bias"])
            inner = [layer, ACTIVATIONS[description["activation"]]()]
        if state is not None:
            layer.load_state_dict({name.split(".", 1)[1]: value.float() for name, value in state.items()})
        layers += inner
    return nn.Sequential(*layers)


def _layer_state(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not (folder / "model.safetensors").exists():
        raise UserError(f"{folder}: no model.safetensors was found; pickled weights are not read, convert them to safetensors first")
    return load_file(folder / "model.safetensors")


def _quietly() -> None:
    """Keep transformers' own notes and bars from a user who did not ask for them."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="transformers")


def load_encoder(name: str, pooling: str | None = None, trust_remote_code: bool = False, dropout: float | None = None) -> Encoder:
    """Load an encoder in float32, in eval mode, from a folder or a hub's name; `dropout` replaces its body's own."""
    folder = resolve(name)
    settings = read_settings(folder, pooling)
    body, tokenizer = load_body(folder, trust_remote_code, dropout)
    return Encoder(body, tokenizer, settings, _head(settings, folder), folder).eval()


def load_body(folder: Path, trust_remote_code: bool = False, dropout: float | None = None) -> tuple[nn.Module, object]:
    """Load a body and its tokenizer; safetensors alone are read."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    _quietly()
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no .safetensors weights were found; pickled weights are not read, convert the model to safetensors first")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        if dropout is not None:
            _set_dropout(config, dropout, folder)
        loader = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        body, loading = loader.from_pretrained(folder, config=config, dtype=torch.float32, use_safetensors=True,
                                               trust_remote_code=trust_remote_code, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder}: the model could not be loaded ({' '.join(str(error).split())[:300]})") from None
    missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(f"{folder}: the weights lack {len(missing)} tensors of a {config.model_type} body (first: {missing[0]}); it is not this body's checkpoint")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"{folder}: its tokenizer has neither a padding nor an end token; add one to tokenizer_config.json")
        tokenizer.pad_token = tokenizer.eos_token  # masked out, so which one it is does not matter
    return body, tokenizer


def _set_dropout(config: object, dropout: float, folder: Path) -> None:
    """Set every dropout of a configuration that is a number; the names differ between families."""
    names = [name for name, value in config.to_dict().items() if "dropout" in name and isinstance(value, float | int) and not isinstance(value, bool)]
    if not names:
        raise UserError(f"--dropout: {folder} has no dropout in its configuration; leave the flag out")
    for name in names:
        setattr(config, name, dropout)


def save_encoder(encoder: Encoder, folder: Path) -> dict[str, str]:
    """Write a folder that Hugging Face, sentence-transformers and this program load with the same vectors.

    Returns the fingerprints of both sides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = encoder.settings
    encoder.body.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    _write(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": encoder.body.config.hidden_size, "include_prompt": settings.include_prompt,
        **{key: ours in settings.pooling for ours, (key, _) in POOLINGS.items()},
    })
    layers = [layer for layer in encoder.head if isinstance(layer, nn.Linear | nn.LayerNorm)]
    for number, description in enumerate(settings.head, start=2):
        kind = {"dense": "Dense", "layer-norm": "LayerNorm", "normalize": "Normalize"}[description["kind"]]
        path = f"{number}_{kind}"
        modules.append((path, kind))
        _save_head_layer(folder / path, description, layers)
        description["path"] = path
    _write(folder / "modules.json", [{"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
                                     for index, (path, kind) in enumerate(modules)])
    longest = max(settings.max_query_tokens, settings.max_document_tokens)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": settings.lower_case})
    prompts = {"query": settings.query_prompt, "document": settings.document_prompt}
    _write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None,
                                                          "similarity_fn_name": settings.similarity or ("cosine" if settings.normalized else "dot")})
    _write(folder / OURS, ours_as_json(settings))
    return fingerprints(folder, read_settings(folder))


def _save_head_layer(folder: Path, description: dict, layers: list[nn.Module]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    if description["kind"] == "normalize":
        return
    layer = layers.pop(0)
    prefix = "norm" if description["kind"] == "layer-norm" else "linear"
    save_file({f"{prefix}.{name}": value.contiguous() for name, value in layer.state_dict().items()}, folder / "model.safetensors")
    if description["kind"] == "layer-norm":
        _write(folder / "config.json", {"dimension": description["dimension"]})
        return
    where = "torch.nn.modules.linear" if description["activation"] == "Identity" else "torch.nn.modules.activation"
    _write(folder / "config.json", {"in_features": description["in"], "out_features": description["out"], "bias": description["bias"],
                                    "activation_function": f"{where}.{description['activation']}"})


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
