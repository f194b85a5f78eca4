"""A model's tokenizer: settings in files other than `tokenizer.json`, and checks that it belongs to the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drtools import reporting
from drtools.errors import InputError
from drtools.models.json_files import TOKENIZER, TOKENIZER_CONFIG, optional_json
from drtools.models.module_keys import DAMAGED
from drtools.outputs.disk import read_json

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

CONFIG, FILE = "tokenizer_config.json", "tokenizer.json"
MANY = 1000  # more than the special tokens of any family
HEAD = 4096  # bytes at the start of tokenizer.json that contain its truncation
WITHOUT_CLASS = ("PreTrainedTokenizerFast", "TokenizersBackend")  # they only do what tokenizer.json says
NORMALIZER = {  # names in tokenizer_config.json: names in a BertNormalizer
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
ROLES = {  # of special tokens, with the usual tokens, which are not deviations
    "bos_token": ("<s>", "[CLS]"),
    "eos_token": ("</s>", "[SEP]"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "unk_token": ("[UNK]", "<unk>"),
    "pad_token": ("[PAD]", "<pad>"),
    "mask_token": ("[MASK]", "<mask>"),
}
SLOW = {  # arguments of a tokenizer without tokenizer.json, with the usual values
    "do_lower_case": (True,),
    "strip_accents": (None,),
    "tokenize_chinese_chars": (True,),
    "add_prefix_space": (False, None),
    "add_bos_token": (None,),
    "add_eos_token": (None,),
}


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """Read the tokenizer_config.json of a folder. Returns an empty object if there is none."""
    return optional_json(folder / CONFIG, TOKENIZER_CONFIG)


def end_token(folder: Path, pooling: tuple[str, ...]) -> str | None:
    """Return the end token that must follow each text but that tokenizer.json does not append, or None.

    With last-token pooling, `add_eos_token` in tokenizer_config.json determines the token that becomes the vector.
    Models such as e5-mistral were trained with </s> as the last token. transformers 4 used that file; transformers 5
    uses tokenizer.json.
    """
    config = tokenizer_config(folder)
    token = _content(config.get("eos_token"))
    if config.get("add_eos_token") is not True or token is None or "last" not in pooling:
        return None
    return None if _adds(folder, token, -1) in (True, None) else token


def deviations(folder: Path, pooling: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the settings with which a tokenizer gives other tokens than tokenizer.json says.

    They are part of fingerprints, like the content of files. Nearly every model has none.
    """
    config = tokenizer_config(folder)
    found: dict[str, object] = {}
    if config.get("truncation_side", _side_of_file(folder)) == "left":
        found["truncation_side"] = "left"
    token = end_token(folder, pooling)
    if token is not None:
        found["end_token"] = token
    if config.get("split_special_tokens"):  # special tokens in texts are read as text
        found["split_special_tokens"] = True
    if not (folder / FILE).exists():
        return found | _slow_deviations(folder, config)
    found |= _special_deviations(folder, config)
    if any(name in config for name in NORMALIZER) and config.get("tokenizer_class") not in WITHOUT_CLASS:
        normalizer = _parts(folder).get("normalizer") or {}
        if normalizer.get("type") == "BertNormalizer":
            found |= {
                ours: config[ours]
                for ours, theirs in NORMALIZER.items()
                if ours in config and config[ours] != normalizer.get(theirs)
            }
    return found


def _special_deviations(folder: Path, config: dict[str, Any]) -> dict[str, object]:
    """Return special tokens of tokenizer_config.json that tokenizer.json lacks or puts in another place.

    Also returns whether a word at the start of a text is read as if it followed a space.
    """
    parts, found = _parts(folder), dict[str, object]()
    known = {token["content"] for token in parts.get("added_tokens") or ()}
    new = sorted({*_special_tokens(config)} - known)
    if new:
        found["special_tokens"] = new
    if config.get("tokenizer_class", WITHOUT_CLASS[0]) in WITHOUT_CLASS:
        return found
    written = _special_ids(parts.get("post_processor"))
    unknown = (parts.get("model") or {}).get("unk_token")
    for role, usual in (("cls_token", written), ("sep_token", written), ("unk_token", {unknown} - {None})):
        token = _content(config.get(role))
        if token is not None and usual and token not in usual:
            found[role] = token
    spaces = {part["add_prefix_space"] for part in _nested(parts.get("pre_tokenizer")) if "add_prefix_space" in part}
    asked = config.get("add_prefix_space")
    if isinstance(asked, bool) and spaces and asked not in spaces:
        found["add_prefix_space"] = asked
    return found


def _slow_deviations(folder: Path, config: dict[str, Any]) -> dict[str, object]:
    """Return unusual settings in the files of a tokenizer without tokenizer.json."""
    map_file = folder / "special_tokens_map.json"
    config = optional_json(map_file, TOKENIZER_CONFIG) | config
    found: dict[str, object] = {
        name: config[name] for name, usual in SLOW.items() if name in config and config[name] not in usual
    }
    roles = {role: _content(config.get(role)) for role in ROLES}
    found |= {role: token for role, token in roles.items() if token is not None and token not in ROLES[role]}
    more = sorted({*_special_tokens(config)} - {token for token in roles.values() if token is not None})
    return found | ({"special_tokens": more} if more else {})


def _special_tokens(config: dict[str, Any]) -> list[str]:
    """Return all special tokens in tokenizer_config.json."""
    further: list[object] = []
    for name in ("extra_special_tokens", "additional_special_tokens", "added_tokens_decoder"):
        tokens = config.get(name) or []
        further += tokens.values() if isinstance(tokens, dict) else tokens
    contents = [_content(token) for token in (*(config.get(role) for role in ROLES), *further)]
    return [token for token in contents if token is not None]


def _nested(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield a part of tokenizer.json, or the parts of a sequence."""
    if part is not None and part["type"] == "Sequence":
        for inner in part.get("pretokenizers") or part.get("processors") or ():
            yield from _nested(inner)
    elif part is not None:
        yield part


def _special_ids(processor: dict[str, Any] | None) -> set[str]:
    """Return the special tokens that a post-processor adds to a text."""
    found: set[str] = set()
    for part in _nested(processor):
        if part["type"] == "TemplateProcessing":
            found |= {piece["SpecialToken"]["id"] for piece in part["single"] if "SpecialToken" in piece}
        elif part["type"] in ("BertProcessing", "RobertaProcessing"):
            found |= {part["cls"][0], part["sep"][0]}
    return found


def fit_tokenizer(
    tokenizer: PreTrainedTokenizerBase, folder: Path, pooling: tuple[str, ...] = (), lower_case: bool = False
) -> None:
    """Apply settings in other files to a loaded tokenizer: lower case, an end token after each text.

    Contradictions between files are reported.
    """
    if tokenizer.is_fast:
        _report_case(tokenizer, folder)
    if lower_case and tokenizer.is_fast:
        _lower_case(tokenizer)
    token = end_token(folder, pooling)
    if token is not None:
        _append(tokenizer, token)
        reporting.notice(
            1,
            f"{folder}: {token} is appended to each text, as add_eos_token in {CONFIG} requires; its {FILE} does not "
            "append it, which sentence-transformers with transformers 5 follows",
        )
    config = tokenizer_config(folder)
    for name, at in (("add_bos_token", 0), ("add_eos_token", -1)):
        special = _content(config.get(name.removeprefix("add_")))
        asked = config.get(name)
        if special is None or not isinstance(asked, bool) or (at == -1 and token is not None):
            continue
        if _adds(folder, special, at) not in (asked, None):
            reporting.notice(
                1,
                f"{folder}: {name} is {str(asked).lower()} in {CONFIG}, but {FILE} {'lacks' if asked else 'adds'} "
                f"{special}; {FILE} is followed, as transformers 5 does",
            )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, body: nn.Module, folder: Path) -> None:
    """Raise InputError for a tokenizer without a vocabulary, or with ids beyond the rows of the embeddings."""
    special = {*tokenizer.all_special_tokens}
    if len(tokenizer) < MANY and sum(token not in special for token in tokenizer.get_vocab()) < 2:
        raise InputError(
            (
                f"its tokenizer has {len(tokenizer)} tokens, {len(special)} of them special, so texts cannot be "
                f"distinguished; its files are missing, add the {FILE} that belongs to the weights"
            ),
            where=folder,
        )
    try:
        rows = body.get_input_embeddings().weight.shape[0]  # type: ignore[operator]  # nn.Module has no embeddings
    except (NotImplementedError, AttributeError):  # a body with hashed embeddings, such as CANINE
        return
    token, last = max(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    if last < rows:
        return
    new = _special_deviations(folder, tokenizer_config(folder)).get("special_tokens")
    if (folder / FILE).exists() and isinstance(new, list) and token in new:
        raise InputError(
            (
                f"it has the special token {token!r}, which {FILE} lacks, so it gets the id {last}, but the "
                f"embeddings have {rows} rows, for ids up to {rows - 1}"
            ),
            where=folder / CONFIG,
            remedy="remove it, or add rows (resize_token_embeddings)",
        )
    raise InputError(
        (
            f"its tokenizer gives ids up to {last} ({token!r}), but its embeddings have {rows} rows, for ids up to "
            f"{rows - 1}"
        ),
        where=folder,
        remedy="use the tokenizer that belongs to the weights, or add rows (resize_token_embeddings)",
    )


def _content(token: object) -> str | None:
    """Return a special token of tokenizer_config.json as text. In the file it is a string or an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _side_of_file(folder: Path) -> str:
    """Return the side on which tokenizer.json truncates texts, which transformers uses too."""
    if not (folder / FILE).exists():
        return "right"
    with open(folder / FILE, "rb") as stream:
        found = re.search(rb'"truncation":\s*\{[^}]*"direction":\s*"Left"', stream.read(HEAD))
    return "left" if found else "right"


def _parts(folder: Path) -> dict[str, Any]:
    """Return the parts of tokenizer.json without its vocabulary. Returns an empty object if there is no such file."""
    file = folder / FILE
    if not file.exists():
        return {}
    status = file.stat()
    return _read_parts(file, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read_parts(file: Path, *identity: int) -> dict[str, Any]:
    whole = read_json(file, TOKENIZER, DAMAGED)
    parts = {name: whole.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor", "added_tokens")}
    return parts | {"model": {"unk_token": (whole.get("model") or {}).get("unk_token")}}


def _adds(folder: Path, token: str, at: int) -> bool | None:
    """Return whether tokenizer.json adds a token at the start (`at` 0) or end (-1) of texts, None if unknown."""
    parts = _parts(folder)
    return _processor_adds(parts["post_processor"], token, at) if parts else None


def _processor_adds(processor: dict[str, Any] | None, token: str, at: int) -> bool | None:
    if processor is None or processor["type"] == "ByteLevel":
        return False
    if processor["type"] == "TemplateProcessing":
        return bool(processor["single"][at].get("SpecialToken", {}).get("id") == token)
    if processor["type"] in ("BertProcessing", "RobertaProcessing"):
        return bool(processor["cls" if at == 0 else "sep"][0] == token)
    if processor["type"] == "Sequence":
        found = [_processor_adds(part, token, at) for part in processor["processors"]]
        return None if None in found else any(found)
    return None


def _report_case(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Report a tokenizer that lower-cases texts although tokenizer.json does not, or the other way around."""
    there = (_parts(folder).get("normalizer") or {}).get("lowercase")
    normalizer = tokenizer.backend_tokenizer.normalizer
    done = json.loads(normalizer.__getstate__()).get("lowercase") if normalizer is not None else None
    if there is not None and done is not None and there != done:
        reporting.notice(
            1,
            f"{folder}: texts are {'lower-cased' if done else 'not lower-cased'}, as do_lower_case in {CONFIG} or the "
            f"default of {type(tokenizer).__name__} requires, although {FILE} says otherwise",
        )


def _lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a fast tokenizer lower-case texts except special tokens, as sentence-transformers does."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    normalizer = backend.normalizer
    described = json.loads(normalizer.__getstate__()) if normalizer is not None else {}
    parts = described.get("normalizers", [described])
    if not any(part.get("type") == "Lowercase" or part.get("lowercase") for part in parts):
        backend.normalizer = Sequence([Lowercase(), *([] if normalizer is None else [normalizer])])


def _append(tokenizer: PreTrainedTokenizerBase, token: str) -> None:
    """Make a fast tokenizer append a special token to each text and pair."""
    from tokenizers import Tokenizer

    backend = tokenizer.backend_tokenizer
    processor = json.loads(backend.post_processor.__getstate__()) if backend.post_processor is not None else None
    number = tokenizer.get_vocab()[token]
    whole: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": _with_end(processor, token, number),
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    }
    backend.post_processor = Tokenizer.from_str(json.dumps(whole)).post_processor  # the only way to make one from JSON


def _with_end(processor: dict[str, Any] | None, token: str, number: int) -> dict[str, Any]:
    """Return a post-processor, as JSON, that does what the given one does and appends a token."""
    if processor is not None and processor["type"] == "Sequence":
        parts = processor["processors"]
        templates = [part for part in parts if part["type"] == "TemplateProcessing"]
        kept = [part for part in parts if part["type"] != "TemplateProcessing"]
        return {**processor, "processors": [*kept, _with_end(templates[0] if templates else None, token, number)]}
    if processor is not None and processor["type"] != "TemplateProcessing":
        return {"type": "Sequence", "processors": [processor, _with_end(None, token, number)]}
    if processor is None:
        text, other = ({"Sequence": {"id": name, "type_id": kind}} for kind, name in enumerate("AB"))
        processor = {"type": "TemplateProcessing", "single": [text], "pair": [text, other], "special_tokens": {}}
    end = {"id": token, "ids": [number], "tokens": [token]}
    return {
        **processor,
        "single": [*processor["single"], {"SpecialToken": {"id": token, "type_id": 0}}],
        "pair": [*processor["pair"], {"SpecialToken": {"id": token, "type_id": 1}}],
        "special_tokens": {**processor["special_tokens"], token: end},
    }
