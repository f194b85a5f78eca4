"""What an encoder is besides its weights, read from a folder's files: pooling, head, prompts, lengths, fingerprints.

A sentence-transformers folder says it in modules.json, a folder of ours also in drtools.json; a bare body says nothing,
and then pooling must be given. Nothing is guessed from names.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drtools import manifest
from drtools.errors import UserError

OURS = "drtools.json"
MASKED_HEAD = "masked-head"
# folders of weights that make no vectors: that head, a REM for other bodies, and a training's checkpoints while it
# writes its output
NO_VECTORS = (MASKED_HEAD, "rem", "working")
SIDES = ("query", "document")
LONGEST_BY_DEFAULT = 512  # [ours] tokens, for a bare body that names no length of its own
POOLINGS = {  # our word: (the file's key, the word of newer files)
    "cls": ("pooling_mode_cls_token", "cls"),
    "max": ("pooling_mode_max_tokens", "max"),
    "mean": ("pooling_mode_mean_tokens", "mean"),
    "mean-sqrt": ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    "weighted-mean": ("pooling_mode_weightedmean_tokens", "weightedmean"),
    "last": ("pooling_mode_lasttoken", "lasttoken"),
}
# as in transformers' own table of attributes: what families call the size of a token's state
HIDDEN_SIZES = ("hidden_size", "dim", "d_model", "n_embd")
# positions of these families start after the padding index, so that many of them are never used
OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
)


@dataclass
class EncoderSettings:
    """How a body's token states become vectors, and how texts become tokens.

    `pooling` concatenates several in this order; `head` lists layers as {"kind": dense|layer-norm|normalize, ...}.
    """

    pooling: tuple[str, ...]
    head: list[dict] = field(default_factory=list)
    include_prompt: bool = True
    query_prompt: str = ""
    document_prompt: str = ""
    max_query_tokens: int = LONGEST_BY_DEFAULT
    max_document_tokens: int = LONGEST_BY_DEFAULT
    lower_case: bool = False
    similarity: str | None = None  # what sentence-transformers' files name: cosine, dot ...
    inherited: dict[str, str] = field(default_factory=dict)  # fingerprints taken over from another encoder, by side
    folded_rem: str | None = None  # the fingerprint of a REM that is in the weights already
    pieces: dict[str, Any] = field(
        default_factory=dict
    )  # of one that distill-fgd made: the spans and the sizes of pieces that it learnt

    @property
    def normalized(self) -> bool:
        """Whether vectors have length 1, so that scores lie in [-1, 1]."""
        return any(layer["kind"] == "normalize" for layer in self.head)

    @property
    def similarity_word(self) -> str:
        """How sentence-transformers is to compare these vectors."""
        return self.similarity or ("cosine" if self.normalized else "dot")

    @property
    def default_scale(self) -> float:
        """The factor on scores in training losses: 20 for normalized or cosine encoders, else 1."""
        return 20.0 if self.normalized or self.similarity == "cosine" else 1.0

    def prompt(self, side: str) -> str:
        """Return the text before each text of a side (`query` or `document`)."""
        return self.query_prompt if side == "query" else self.document_prompt

    def max_tokens(self, side: str) -> int:
        """Return where texts of a side are cut, in tokens, special ones included."""
        return self.max_query_tokens if side == "query" else self.max_document_tokens


def optional_json(path: Path) -> dict:
    """Return the object of a JSON file, an empty one if there is no such file."""
    return manifest.read_json(path) if path.exists() else {}


def is_pair(folder: Path) -> bool:
    """Whether a folder holds two encoders, one for each side, in subfolders of these names."""
    return optional_json(folder / OURS).get("kind") == "pair"


def is_bare(folder: Path) -> bool:
    """Whether a folder holds a body alone, whose files do not say how its states become a vector."""
    return not is_pair(folder) and not (folder / "modules.json").exists()


def is_lexical(folder: Path) -> bool:
    """Whether a folder holds a lexical encoder (of `make-lexical`), which has no body."""
    return optional_json(folder / OURS).get("kind") == "lexical"


def side_folder(folder: Path, side: str) -> Path:
    """Return where the encoder of a side lies: the subfolder of a pair, else the folder itself."""
    if not is_pair(folder):
        return folder
    if not (folder / side).is_dir():
        raise UserError(
            f"{folder}: its {OURS} says that it is a pair of encoders, but it has no subfolder {side}; expected the "
            "encoder of queries in query/ and that of documents in document/"
        )
    return folder / side


def positions(config: dict) -> int | None:
    """Return the most tokens that a body's positions allow, or None if its configuration names no number."""
    count = config.get("max_position_embeddings")
    if isinstance(count, int) and config.get("model_type") in OFFSET_POSITIONS:
        count -= (config.get("pad_token_id") or 0) + 1
    return count


def head_dimension(settings: EncoderSettings, hidden_size: int) -> int:
    """Return the length of the vectors that come of token states of a size."""
    layers = [layer["out"] for layer in settings.head if layer["kind"] == "dense"]
    return layers[-1] if layers else hidden_size * len(settings.pooling)


def vector_dimension(folder: Path, settings: EncoderSettings) -> int:
    """Return the length of an encoder's vectors, read from its files."""
    config = manifest.read_json(folder / "config.json")
    sizes = [config[name] for name in HIDDEN_SIZES if isinstance(config.get(name), int)]
    if not sizes:
        raise UserError(
            f"{folder / 'config.json'}: none of {', '.join(HIDDEN_SIZES)} was found, so the length of its vectors is "
            "not known; such models are not supported"
        )
    return head_dimension(settings, sizes[0])


def _longest(folder: Path) -> int | None:
    """Return the most tokens that a body's files allow, or None if they name no length."""
    limits: list[int | None] = []
    said = optional_json(folder / "sentence_bert_config.json").get("max_seq_length")
    if isinstance(said, int):
        limits.append(said)
    else:
        limits.append(optional_json(folder / "tokenizer_config.json").get("model_max_length"))
    limits.append(positions(optional_json(folder / "config.json")))
    known = [int(limit) for limit in limits if limit and limit < 1e7]  # tokenizers write 1e30 for `no limit`
    return min(known) if known else None


def _poolings(config: dict, path: Path) -> tuple[str, ...]:
    theirs = config.get("pooling_mode")
    if theirs is None:
        named = tuple(ours for ours, (key, _) in POOLINGS.items() if config.get(key))
        return named or ("mean",)
    words = {word: ours for ours, (_, word) in POOLINGS.items()}
    asked = [theirs] if isinstance(theirs, str) else theirs
    unknown = [word for word in asked if word not in words]
    if unknown:
        raise UserError(f"{path}: pooling {unknown[0]!r} is not known; known are {', '.join(words)}")
    return tuple(words[word] for word in asked)


def _head_layer(kind: str, folder: Path, path: str) -> dict:
    config = optional_json(folder / path / "config.json")
    if kind == "Normalize":
        return {"kind": "normalize"}
    if kind == "LayerNorm":
        return {"kind": "layer-norm", "dimension": config["dimension"], "path": path}
    if config.get("use_residual") or config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise UserError(
            f"{folder / path}: a dense layer with a residual or another input is not supported; export the model "
            "without it"
        )
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh").rsplit(".", 1)[-1]
    return {
        "kind": "dense",
        "in": config["in_features"],
        "out": config["out_features"],
        "bias": config.get("bias", True),
        "activation": activation,
        "path": path,
    }


def _modules(path: Path) -> list[dict]:
    try:
        modules = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); the file was damaged, fetch the model again") from None
    if not isinstance(modules, list) or not all(
        isinstance(module, dict) and {"type", "path"} <= module.keys() for module in modules
    ):
        raise UserError(
            f"{path}: expected a list of modules, each with a type and a path; the file was damaged, fetch the model "
            "again"
        )
    return modules


def _of_modules(folder: Path, settings: EncoderSettings) -> None:
    """Fill in what modules.json says, module by module; a module that is not known here is refused by name."""
    for module in _modules(folder / "modules.json"):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Transformer":
            if module["path"]:
                raise UserError(
                    f"{folder}: its body lies in the subfolder {module['path']!r}; only models whose body lies in the "
                    "folder itself are supported"
                )
        elif kind == "Pooling":
            config = optional_json(folder / module["path"] / "config.json")
            settings.pooling = _poolings(config, folder / module["path"])
            settings.include_prompt = config.get("include_prompt", True)
        elif kind in ("Dense", "LayerNorm", "Normalize"):
            settings.head.append(_head_layer(kind, folder, module["path"]))
        elif kind != "Dropout":
            raise UserError(
                f"{folder}: its modules.json names {module['type']}, which is not supported; supported are "
                "Transformer, Pooling, Dense, LayerNorm, Normalize"
            )
    config = optional_json(folder / "config_sentence_transformers.json")
    prompts = config.get("prompts") or {}
    usual = prompts.get(config.get("default_prompt_name") or "", "")
    settings.query_prompt = prompts.get("query") or usual
    settings.document_prompt = next(
        (prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), usual
    )
    settings.similarity = config.get("similarity_fn_name")
    settings.lower_case = bool(optional_json(folder / "sentence_bert_config.json").get("do_lower_case"))


def read_settings(folder: Path, pooling: str | None = None) -> EncoderSettings:
    """Read an encoder's settings; `pooling` is for a bare body, whose files name none."""
    if is_lexical(folder):
        raise UserError(
            f"{folder}: a lexical encoder, which has no body to train; it encodes and searches, or is made anew with "
            "drtools make-lexical"
        )
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: no config.json was found, expected a Hugging Face or sentence-transformers model")
    settings = EncoderSettings(pooling=())
    if (folder / "modules.json").exists():
        _of_modules(folder, settings)
    longest = _longest(folder)
    if not settings.pooling:
        longest = min(longest or LONGEST_BY_DEFAULT, LONGEST_BY_DEFAULT)
    settings.max_query_tokens = settings.max_document_tokens = longest or LONGEST_BY_DEFAULT
    ours = optional_json(folder / OURS)
    if ours.get("kind") != "encoder":  # a ranker's lengths are those of pairs
        ours = {}
    for name in (
        "query_prompt",
        "document_prompt",
        "max_query_tokens",
        "max_document_tokens",
        "inherited",
        "folded_rem",
        "pieces",
    ):
        if name in ours:
            setattr(settings, name, ours[name])
    if pooling is not None:
        *words, last = pooling.split("+")
        words += [] if last == "normalize" else [last]
        if not words or any(word not in POOLINGS for word in words):
            raise UserError(
                f"--pooling {pooling}: expected {', '.join(POOLINGS)}, or several joined by +; +normalize at the end "
                "gives vectors of length 1"
            )
        settings.pooling = tuple(word for word in POOLINGS if word in words)  # the order in which a folder is read back
        if len(settings.pooling) < len(words):
            raise UserError(f"--pooling {pooling}: a kind stands twice; say each once")
        if last == "normalize" and not settings.normalized:
            settings.head.append({"kind": "normalize"})
    if not settings.pooling:
        raise UserError(
            f"{folder}: a bare body, whose files do not say how token states become one vector; say --pooling cls, "
            "mean, max or last"
        )
    return settings


def weights_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the files that make vectors: weights, configuration, tokenizer, head layers."""
    kinds = ("*.safetensors", "config.json", "tokenizer.json", "vocab.txt", "*.model", "*/*.safetensors")
    files = sorted({path for kind in kinds for path in folder.glob(kind) if path.parent.name not in NO_VECTORS})
    return manifest.digest([[str(path.relative_to(folder)), manifest.file_fingerprint(path)] for path in files])


def fingerprints(folder: Path, settings: EncoderSettings) -> dict[str, str]:
    """Return {"query": ..., "document": ...}: equal exactly if the same text gives the same vector.

    Lengths are left out: an encoder that cuts elsewhere still speaks to the same index; manifests record them.
    """
    weights = weights_fingerprint(folder)
    common = [weights, list(settings.pooling), settings.head, settings.include_prompt, settings.lower_case]
    return {side: settings.inherited.get(side) or manifest.digest([*common, settings.prompt(side)]) for side in SIDES}


def check_side(settings: EncoderSettings, side: str, name: str) -> None:
    """Refuse an encoder that was made for the other side alone."""
    if side in settings.inherited:
        plural = {"query": "queries", "document": "documents"}
        other = SIDES[1 - SIDES.index(side)]
        raise UserError(
            f"{name}: an encoder of {plural[other]} alone; vectors of {plural[side]} come from another, name that one, "
            "or the pair of both"
        )


def ours_as_json(settings: EncoderSettings) -> dict:
    """Return what drtools.json holds."""
    kept = dataclasses.asdict(settings)
    return {
        "kind": "encoder",
        **{
            name: kept[name]
            for name in ("query_prompt", "document_prompt", "max_query_tokens", "max_document_tokens", "inherited")
        },
        **{name: kept[name] for name in ("folded_rem", "pieces") if kept[name]},
    }
