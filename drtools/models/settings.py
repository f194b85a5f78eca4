"""The settings of an encoder, read from a folder's files: pooling, head, prompts, lengths, fingerprints.

A sentence-transformers folder has them in modules.json, a folder of drtools also in drtools.json. A bare body has no
pooling, so it must be given. Nothing is guessed from names.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drtools.errors import InputError, param
from drtools.models.json_files import ADAPTER, body_config, optional_json, own_settings
from drtools.models.module_files import POOLINGS, has_modules, read_modules
from drtools.models.module_keys import HeadLayer, check_keys
from drtools.models.tokenizers import deviations, tokenizer_config
from drtools.outputs.fingerprints import digest, file_fingerprint

OURS = "drtools.json"
MASKED_HEAD = "masked-head"
# subfolders with weights that do not affect vectors: the masked-language head, a REM for other bodies, and checkpoints
# of a training that has not finished
NO_VECTORS = (MASKED_HEAD, "rem", "working")
SIDES = ("query", "document")
LONGEST_BY_DEFAULT = 512  # [ours] tokens, for a bare body without a length in its files
# names of the size of a token state, as in transformers' table of attributes
HIDDEN_SIZES = ("hidden_size", "dim", "d_model", "n_embd")
# In these families, positions start after the padding index, and those before it are never used. This is for reading
# files without loading the body, as in `show`; otherwise see `bodies.positions_of`.
OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
    "roberta-prelayernorm",
    "xmod",
    "luke",
    "esm",
    "markuplm",
)


@dataclass
class EncoderSettings:
    """How texts become tokens, and how the token states of a body become vectors.

    Several modes of `pooling` are concatenated in this order. `head` lists the layers after the pooling.
    """

    pooling: tuple[str, ...]
    head: list[HeadLayer] = field(default_factory=list)
    include_prompt: bool = True
    query_prompt: str = ""
    document_prompt: str = ""
    max_query_tokens: int = LONGEST_BY_DEFAULT
    max_document_tokens: int = LONGEST_BY_DEFAULT
    lower_case: bool = False
    similarity: str | None = None  # in sentence-transformers' files: cosine, dot ...
    inherited: dict[str, str] = field(default_factory=dict)  # fingerprints of another encoder, by side
    same_as: dict[str, str] = field(
        default_factory=dict
    )  # its own fingerprint -> the fingerprint of the model of which it is a copy
    folded_rem: str | None = None  # the fingerprint of a REM in the weights
    pieces: dict[str, Any] = field(
        default_factory=dict
    )  # from distill-fgd: the kind of spans and the sizes of pieces of its training
    matryoshka: list[int] = field(default_factory=list)  # dimensions that its training summed the loss over
    notes: list[str] = field(default_factory=list)  # problems in its files, reported when it is loaded

    @property
    def normalized(self) -> bool:
        """Whether vectors have length 1, so that scores lie in [-1, 1]."""
        kinds = [layer["kind"] for layer in self.head]
        return "normalize" in kinds and "truncate" not in kinds[-1 - kinds[::-1].index("normalize") :]

    @property
    def similarity_word(self) -> str:
        """The similarity function for sentence-transformers."""
        return self.similarity or ("cosine" if self.normalized else "dot")

    @property
    def default_scale(self) -> float:
        """The factor on scores in training losses: 20 for normalized or cosine encoders, else 1."""
        return 20.0 if self.normalized or self.similarity == "cosine" else 1.0

    def prompt(self, side: str) -> str:
        """Return the text before each text of a side (`query` or `document`)."""
        return self.query_prompt if side == "query" else self.document_prompt

    def max_tokens(self, side: str) -> int:
        """Return the maximum length of texts of a side, in tokens including special tokens."""
        return self.max_query_tokens if side == "query" else self.max_document_tokens


def is_pair(folder: Path) -> bool:
    """Return whether a folder holds two encoders, in subfolders named after the sides."""
    return own_settings(folder).get("kind") == "pair"


def is_bare(folder: Path) -> bool:
    """Return whether a folder holds only a body, without pooling and head."""
    return not is_pair(folder) and not has_modules(folder)


def is_lexical(folder: Path) -> bool:
    """Return whether a folder holds a lexical encoder (from `make-lexical`), which has no body."""
    return own_settings(folder).get("kind") == "lexical"


def side_folder(folder: Path, side: str) -> Path:
    """Return the folder of the encoder of a side: a subfolder of a pair, or the folder itself."""
    if not is_pair(folder):
        return folder
    if not (folder / side).is_dir():
        raise InputError(
            f"its {OURS} says that it is a pair of encoders, but it has no subfolder {side}",
            where=folder,
            expected="the encoder of queries in query/ and that of documents in document/",
        )
    return folder / side


def positions(config: dict[str, Any]) -> int | None:
    """Return the maximum number of tokens for a body's positions, or None if its configuration has none."""
    count = next((config[name] for name in ("max_position_embeddings", "n_positions") if name in config), None)
    if not isinstance(count, int) or count < 1:  # XLNet has -1
        return None
    if config.get("model_type") in OFFSET_POSITIONS:
        padding = config.get("pad_token_id")
        count -= (padding if isinstance(padding, int) else 0) + 1
    return count


def head_dimension(settings: EncoderSettings, hidden_size: int) -> int:
    """Return the dimension of vectors, given the size of token states."""
    size = hidden_size * len(settings.pooling)
    for layer in settings.head:
        if layer["kind"] == "dense":
            size = layer["out"]
        elif layer["kind"] == "truncate":
            size = min(size, layer["out"])
    return size


def vector_dimension(folder: Path, settings: EncoderSettings) -> int:
    """Return the dimension of an encoder's vectors, read from its files."""
    config = body_config(folder)
    sizes = [config[name] for name in HIDDEN_SIZES if isinstance(config.get(name), int)]
    if not sizes:
        raise InputError(
            (
                f"none of {', '.join(HIDDEN_SIZES)} was found, so the dimension of its vectors is not known; such "
                "models are not supported"
            ),
            where=folder / "config.json",
        )
    return head_dimension(settings, sizes[0])


def _longest(folder: Path, said: int | None) -> int | None:
    """Return the maximum number of tokens in a body's files, or None. `said` is the one of its modules."""
    longest = said if isinstance(said, int) else tokenizer_config(folder).get("model_max_length")
    limits: list[int | None] = [longest, positions(body_config(folder))]
    known = [int(limit) for limit in limits if limit and limit < 1e7]  # tokenizers have 1e30 for no limit
    return min(known) if known else None


def read_settings(folder: Path, pooling: str | None = None) -> EncoderSettings:
    """Read the settings of an encoder. `pooling` is for a bare body, whose files have none."""
    if is_lexical(folder):
        raise InputError(
            (
                "a lexical encoder, which has no body to train; use it to encode and search, or make a new one with "
                "drtools make-lexical"
            ),
            where=folder,
        )
    refuse_adapter(folder)
    settings = _of_files(folder)
    ours: dict[str, Any] = own_settings(folder)
    if ours.get("kind") != "encoder":  # the lengths of a ranker are those of pairs
        ours = {}
    check_keys(ours, OURS, folder / OURS, settings.notes)
    for name in (
        "query_prompt",
        "document_prompt",
        "max_query_tokens",
        "max_document_tokens",
        "inherited",
        "same_as",
        "folded_rem",
        "pieces",
        "matryoshka",
    ):
        if ours.get(name) is not None:
            setattr(settings, name, ours[name])
    if pooling is not None:
        _set_pooling(settings, pooling)
    if not settings.pooling:
        raise InputError(
            "a bare body, whose files do not define a pooling",
            where=folder,
            remedy=f"use {param('pooling')} cls, mean, max or last",
        )
    if settings.similarity not in (None, "dot") and not settings.normalized:
        remedy = (
            f"; use {param('pooling')} {'+'.join(settings.pooling)}+normalize for vectors whose inner product is their "
            "cosine"
        )
        settings.notes.append(
            f"{folder}: it compares vectors by {settings.similarity}, but they do not have length 1; drtools searches "
            f"by inner product{remedy if settings.similarity == 'cosine' else ''}"
        )
    return settings


def refuse_adapter(folder: Path) -> None:
    """Raise InputError for a folder with an unmerged adapter, since transformers would load the base model it names."""
    if (folder / "adapter_config.json").exists():
        base = optional_json(folder / "adapter_config.json", ADAPTER).get("base_model_name_or_path") or "its base model"
        raise InputError(
            f"an adapter (adapter_config.json) for {base}, which is not merged into the weights",
            where=folder,
            remedy=f"merge it with `drtools import-model {folder} -o FOLDER`, and pass that folder",
        )


def _of_files(folder: Path) -> EncoderSettings:
    """Read the settings in a folder's files, from sentence-transformers or of a body alone."""
    settings, said = EncoderSettings(pooling=()), None
    sides: dict[str, int | None] = {}
    if has_modules(folder):
        files = read_modules(folder)
        for name in ("pooling", "head", "include_prompt", "query_prompt", "document_prompt", "similarity"):
            setattr(settings, name, getattr(files, name))
        settings.lower_case, settings.notes, said = files.lower_case, files.notes, files.longest
        sides = {"query": files.query_length, "document": files.document_length}
    if not (folder / "config.json").exists():
        raise InputError(
            "no config.json was found", where=folder, expected="a Hugging Face or sentence-transformers model"
        )
    longest = _longest(folder, said)
    if not settings.pooling:
        longest = min(longest or LONGEST_BY_DEFAULT, LONGEST_BY_DEFAULT)
        if body_config(folder).get("model_type") == "dpr":
            settings.pooling = ("cls",)  # DPR's encoders return the state of the first token
    settings.max_query_tokens, settings.max_document_tokens = (
        sides.get(side) or longest or LONGEST_BY_DEFAULT for side in SIDES
    )
    return settings


def _set_pooling(settings: EncoderSettings, pooling: str) -> None:
    """Set a pooling by its name."""
    *words, last = pooling.split("+")
    words += [] if last == "normalize" else [last]
    if not words or any(word not in POOLINGS for word in words):
        raise InputError(
            (
                f"expected {', '.join(POOLINGS)}, or several joined with +; add +normalize at the end for vectors "
                "of length 1"
            ),
            where=f"{param('pooling')} {pooling}",
        )
    settings.pooling = tuple(word for word in POOLINGS if word in words)  # the order in which folders are read
    if len(settings.pooling) < len(words):
        raise InputError("a pooling was given twice", where=f"{param('pooling')} {pooling}", remedy="give each once")
    if last == "normalize" and not settings.normalized:
        settings.head.append({"kind": "normalize"})


def weights_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the files that determine vectors: weights, configuration, tokenizer, head."""
    kinds = [
        "*.safetensors",
        "lora-adapter/adapter_config.json",
        "config.json",
        "tokenizer.json",
        "vocab.txt",
        "*.model",
        "*/*.safetensors",
    ]
    if not (folder / "tokenizer.json").exists():  # tokenizer.json has all that these files have
        kinds += ["vocab.json", "merges.txt", "added_tokens.json", "entity_vocab.json", "bpe.codes"]
    files = sorted({path for kind in kinds for path in folder.glob(kind) if path.parent.name not in NO_VECTORS})
    return digest([[str(path.relative_to(folder)), file_fingerprint(path)] for path in files])


def fingerprints(folder: Path, settings: EncoderSettings) -> dict[str, str]:
    """Return {"query": ..., "document": ...}. A fingerprint is equal exactly if the same text has the same vector.

    Lengths are not included, since an encoder with other lengths can still search the same index; manifests record
    them. A copy with other bytes has the fingerprint of its original while its files do not change.
    """
    weights = weights_fingerprint(folder)
    common = [weights, list(settings.pooling), settings.head, settings.include_prompt, settings.lower_case]
    odd = deviations(folder, settings.pooling)
    common += [odd] if odd else []  # a model without deviations keeps its fingerprint of 0.1.0
    prompts = {side: settings.prompt(side) for side in SIDES}
    if settings.lower_case:  # prompts are in lower case too
        prompts = {side: prompt.lower() for side, prompt in prompts.items()}
    own = {side: digest([*common, prompts[side]]) for side in SIDES}
    return {side: settings.inherited.get(side) or settings.same_as.get(own[side], own[side]) for side in SIDES}


def check_side(settings: EncoderSettings, side: str, name: str) -> None:
    """Raise InputError for an encoder that was made only for the other side."""
    if side in settings.inherited:
        plural = {"query": "queries", "document": "documents"}
        other = SIDES[1 - SIDES.index(side)]
        raise InputError(
            (f"an encoder only for {plural[other]}; pass the encoder of {plural[side]}, or the pair of both"),
            where=name,
        )


def ours_as_json(settings: EncoderSettings) -> dict[str, Any]:
    """Return the content of drtools.json."""
    kept = dataclasses.asdict(settings)
    return {
        "kind": "encoder",
        **{
            name: kept[name]
            for name in ("query_prompt", "document_prompt", "max_query_tokens", "max_document_tokens", "inherited")
        },
        **{name: kept[name] for name in ("folded_rem", "pieces", "matryoshka") if kept[name]},
    }


@dataclass
class RemSettings:
    """The sizes of a REM: the rank of LoRA and the bottleneck of the adapter (0 for none).

    `adapter_scale` multiplies the output of the adapter.
    """

    lora_rank: int
    adapter_size: int
    adapter_scale: float = 4.0
