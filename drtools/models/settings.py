"""What an encoder is besides its weights, read from a folder's files: pooling, head, prompts, lengths, fingerprints.

A sentence-transformers folder says it in modules.json, a folder of ours also in drtools.json; a bare body says nothing,
and then pooling must be given. Nothing is guessed from names.
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
# folders of weights that make no vectors: that head, a REM for other bodies, and a training's checkpoints while it
# writes its output
NO_VECTORS = (MASKED_HEAD, "rem", "working")
SIDES = ("query", "document")
LONGEST_BY_DEFAULT = 512  # [ours] tokens, for a bare body that names no length of its own
# as in transformers' own table of attributes: what families call the size of a token's state
HIDDEN_SIZES = ("hidden_size", "dim", "d_model", "n_embd")
# positions of these families start after the padding index, so that many of them are never used. A body that is loaded
# is asked itself (`bodies.positions_of`); this is for who reads files alone, as `show` does.
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
    """How a body's token states become vectors, and how texts become tokens.

    `pooling` concatenates several in this order; `head` lists the layers behind it.
    """

    pooling: tuple[str, ...]
    head: list[HeadLayer] = field(default_factory=list)
    include_prompt: bool = True
    query_prompt: str = ""
    document_prompt: str = ""
    max_query_tokens: int = LONGEST_BY_DEFAULT
    max_document_tokens: int = LONGEST_BY_DEFAULT
    lower_case: bool = False
    similarity: str | None = None  # what sentence-transformers' files name: cosine, dot ...
    inherited: dict[str, str] = field(default_factory=dict)  # fingerprints taken over from another encoder, by side
    same_as: dict[str, str] = field(default_factory=dict)  # its own fingerprint -> that of the model it is a copy of
    folded_rem: str | None = None  # the fingerprint of a REM that is in the weights already
    pieces: dict[str, Any] = field(
        default_factory=dict
    )  # of one that distill-fgd made: the spans and the sizes of pieces that it learnt
    notes: list[str] = field(default_factory=list)  # what is odd in its files, to be reported when it is loaded

    @property
    def normalized(self) -> bool:
        """Whether vectors have length 1, so that scores lie in [-1, 1]."""
        kinds = [layer["kind"] for layer in self.head]
        return "normalize" in kinds and "truncate" not in kinds[kinds.index("normalize") :]

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


def is_pair(folder: Path) -> bool:
    """Whether a folder holds two encoders, one for each side, in subfolders of these names."""
    return own_settings(folder).get("kind") == "pair"


def is_bare(folder: Path) -> bool:
    """Whether a folder holds a body alone, whose files do not say how its states become a vector."""
    return not is_pair(folder) and not has_modules(folder)


def is_lexical(folder: Path) -> bool:
    """Whether a folder holds a lexical encoder (of `make-lexical`), which has no body."""
    return own_settings(folder).get("kind") == "lexical"


def side_folder(folder: Path, side: str) -> Path:
    """Return where the encoder of a side lies: the subfolder of a pair, else the folder itself."""
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
    """Return the most tokens that a body's positions allow, or None if its configuration names no number."""
    count = next((config[name] for name in ("max_position_embeddings", "n_positions") if name in config), None)
    if not isinstance(count, int) or count < 1:  # XLNet's is -1
        return None
    if config.get("model_type") in OFFSET_POSITIONS:
        padding = config.get("pad_token_id")
        count -= (padding if isinstance(padding, int) else 0) + 1
    return count


def head_dimension(settings: EncoderSettings, hidden_size: int) -> int:
    """Return the length of the vectors that come of token states of a size."""
    size = hidden_size * len(settings.pooling)
    for layer in settings.head:
        if layer["kind"] == "dense":
            size = layer["out"]
        elif layer["kind"] == "truncate":
            size = min(size, layer["out"])
    return size


def vector_dimension(folder: Path, settings: EncoderSettings) -> int:
    """Return the length of an encoder's vectors, read from its files."""
    config = body_config(folder)
    sizes = [config[name] for name in HIDDEN_SIZES if isinstance(config.get(name), int)]
    if not sizes:
        raise InputError(
            (
                f"none of {', '.join(HIDDEN_SIZES)} was found, so the length of its vectors is not known; such models "
                "are not supported"
            ),
            where=folder / "config.json",
        )
    return head_dimension(settings, sizes[0])


def _longest(folder: Path, said: int | None) -> int | None:
    """Return the most tokens that a body's files allow, or None if they name no length; `said` is its modules'."""
    longest = said if isinstance(said, int) else tokenizer_config(folder).get("model_max_length")
    limits: list[int | None] = [longest, positions(body_config(folder))]
    known = [int(limit) for limit in limits if limit and limit < 1e7]  # tokenizers write 1e30 for `no limit`
    return min(known) if known else None


def read_settings(folder: Path, pooling: str | None = None) -> EncoderSettings:
    """Read an encoder's settings; `pooling` is for a bare body, whose files name none."""
    if is_lexical(folder):
        raise InputError(
            (
                "a lexical encoder, which has no body to train; it encodes and searches, or is made anew with drtools "
                "make-lexical"
            ),
            where=folder,
        )
    refuse_adapter(folder)
    settings = _of_files(folder)
    ours: dict[str, Any] = own_settings(folder)
    if ours.get("kind") != "encoder":  # a ranker's lengths are those of pairs
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
    ):
        if ours.get(name) is not None:
            setattr(settings, name, ours[name])
    if pooling is not None:
        _set_pooling(settings, pooling)
    if not settings.pooling:
        raise InputError(
            "a bare body, whose files do not say how token states become one vector",
            where=folder,
            remedy=f"use {param('pooling')} cls, mean, max or last",
        )
    if settings.similarity not in (None, "dot") and not settings.normalized:
        remedy = (
            f"; {param('pooling')} {'+'.join(settings.pooling)}+normalize gives vectors whose inner product is their "
            "cosine"
        )
        settings.notes.append(
            f"{folder}: it compares vectors by {settings.similarity}, but they do not have length 1; searches here go "
            f"by inner product{remedy if settings.similarity == 'cosine' else ''}"
        )
    return settings


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder with an adapter that is not merged: transformers would load whatever base model it names."""
    if (folder / "adapter_config.json").exists():
        base = optional_json(folder / "adapter_config.json", ADAPTER).get("base_model_name_or_path") or "its base model"
        raise InputError(
            f"an adapter (adapter_config.json) for {base}, which is not merged into the weights",
            where=folder,
            remedy=f"merge it with `drtools import-model {folder} -o FOLDER`, and name that folder",
        )


def _of_files(folder: Path) -> EncoderSettings:
    """Read what a folder's files say, sentence-transformers' or a body's alone."""
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
            settings.pooling = ("cls",)  # DPR's encoders return the first token's state
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
                f"expected {', '.join(POOLINGS)}, or several joined by +; +normalize at the end gives vectors of "
                "length 1"
            ),
            where=f"{param('pooling')} {pooling}",
        )
    settings.pooling = tuple(word for word in POOLINGS if word in words)  # the order in which a folder is read back
    if len(settings.pooling) < len(words):
        raise InputError("a kind stands twice", where=f"{param('pooling')} {pooling}", remedy="name each once")
    if last == "normalize" and not settings.normalized:
        settings.head.append({"kind": "normalize"})


def weights_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the files that make vectors: weights, configuration, tokenizer, head layers."""
    kinds = ["*.safetensors", "config.json", "tokenizer.json", "vocab.txt", "*.model", "*/*.safetensors"]
    if not (folder / "tokenizer.json").exists():  # which holds all that these say
        kinds += ["vocab.json", "merges.txt", "added_tokens.json", "entity_vocab.json", "bpe.codes"]
    files = sorted({path for kind in kinds for path in folder.glob(kind) if path.parent.name not in NO_VECTORS})
    return digest([[str(path.relative_to(folder)), file_fingerprint(path)] for path in files])


def fingerprints(folder: Path, settings: EncoderSettings) -> dict[str, str]:
    """Return {"query": ..., "document": ...}: equal exactly if the same text gives the same vector.

    Lengths are left out: an encoder that cuts elsewhere still speaks to the same index; manifests record them. A copy
    that was written anew has the fingerprint of its original while its files are what was written.
    """
    weights = weights_fingerprint(folder)
    common = [weights, list(settings.pooling), settings.head, settings.include_prompt, settings.lower_case]
    odd = deviations(folder, settings.pooling)
    common += [odd] if odd else []  # a model without any keeps the fingerprint that 0.1.0 gave it
    prompts = {side: settings.prompt(side) for side in SIDES}
    if settings.lower_case:  # which a prompt is written in too
        prompts = {side: prompt.lower() for side, prompt in prompts.items()}
    own = {side: digest([*common, prompts[side]]) for side in SIDES}
    return {side: settings.inherited.get(side) or settings.same_as.get(own[side], own[side]) for side in SIDES}


def check_side(settings: EncoderSettings, side: str, name: str) -> None:
    """Refuse an encoder that was made for the other side alone."""
    if side in settings.inherited:
        plural = {"query": "queries", "document": "documents"}
        other = SIDES[1 - SIDES.index(side)]
        raise InputError(
            (
                f"an encoder of {plural[other]} alone; vectors of {plural[side]} come from another, name that one, or "
                "the pair of both"
            ),
            where=name,
        )


def ours_as_json(settings: EncoderSettings) -> dict[str, Any]:
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


@dataclass
class RemSettings:
    """The sizes of a REM: the rank of LoRA and the adapter's bottleneck, 0 for none.

    What the adapter's output is multiplied by.
    """

    lora_rank: int
    adapter_size: int
    adapter_scale: float = 4.0
