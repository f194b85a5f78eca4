"""Read sentence-transformers' files of an encoder or a cross-encoder: modules, prompts, lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drtools.errors import InputError, param
from drtools.formats.archives import is_inside
from drtools.models.json_files import listed_modules, optional_json
from drtools.models.module_keys import (
    DAMAGED,
    MULTI_VECTOR,
    MULTI_VECTOR_KEYS,
    HeadLayer,
    check_keys,
    check_output,
    check_requirements,
)
from drtools.outputs.records import TEXT, optional

POOLINGS = {  # our name: (the key in files, the name in newer files)
    "cls": ("pooling_mode_cls_token", "cls"),
    "max": ("pooling_mode_max_tokens", "max"),
    "mean": ("pooling_mode_mean_tokens", "mean"),
    "mean-sqrt": ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    "weighted-mean": ("pooling_mode_weightedmean_tokens", "weightedmean"),
    "last": ("pooling_mode_lasttoken", "lasttoken"),
}
# one of them has the lengths; this is sentence-transformers' order
LENGTH_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
WITH_FILES = ("Pooling", "Dense", "LayerNorm", "LogitScore")  # modules whose folders have a config.json
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
KWARGS = {  # names in older files: names in newer files
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "config_args": "config_kwargs",
}
CONFIG = "config_sentence_transformers.json"


@dataclass
class ModuleSettings:
    """The settings in the files. `notes` are sentences about problems in the files."""

    pooling: tuple[str, ...] = ()
    head: list[HeadLayer] = field(default_factory=list)
    include_prompt: bool = True
    query_prompt: str = ""
    document_prompt: str = ""
    similarity: str | None = None
    lower_case: bool = False
    longest: int | None = None  # tokens, for both sides
    query_length: int | None = None
    document_length: int | None = None
    notes: list[str] = field(default_factory=list)


def model_type(folder: Path) -> str:
    """Return the class of sentence-transformers for which a folder with modules was written."""
    return optional_json(folder / CONFIG, {"model_type": optional(TEXT)}).get("model_type") or "SentenceTransformer"


def has_modules(folder: Path) -> bool:
    """Return whether a folder's files define pooling and head, which is not so for a body or a cross-encoder."""
    return (folder / "modules.json").exists() and model_type(folder) != "CrossEncoder"


def read_modules(folder: Path) -> ModuleSettings:
    """Read a sentence-transformers folder. Raises InputError with the name of an unknown module or value."""
    found = ModuleSettings()
    config = optional_json(folder / CONFIG)
    _check_kind(folder, config)
    for at, module in enumerate(checked_modules(folder, found.notes)):
        add_module(found, folder, module, at)
    if found.head and not found.pooling and any(layer["kind"] != "normalize" for layer in found.head):
        raise InputError(
            f"its modules.json has layers for tokens but no pooling: {MULTI_VECTOR}",
            where=folder,
            remedy="use the program that it was made for, or an encoder with one vector for each text",
        )
    check_keys(config, CONFIG, folder / CONFIG, found.notes)
    check_requirements(config, folder / CONFIG)
    _read_prompts(found, config, folder)
    _read_vectors(found, config, folder)
    lengths = read_lengths(folder, "sentence_bert_config.json", found.notes)
    check_output(lengths, "last_hidden_state", folder)
    found.longest = lengths.get("max_seq_length") or lengths["model_max_length"]
    found.query_length, found.document_length = lengths.get("query_length"), lengths.get("document_length")
    found.lower_case = bool(lengths.get("do_lower_case"))
    return found


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    kind = model_type(folder)
    if kind != "SentenceTransformer" or MULTI_VECTOR_KEYS & config.keys():
        what = (
            f"model_type {kind}"
            if kind != "SentenceTransformer"
            else f"{', '.join(sorted(MULTI_VECTOR_KEYS & config.keys()))}, keys of {MULTI_VECTOR}"
        )
        raise InputError(
            f"found {what}",
            where=folder / CONFIG,
            expected="a SentenceTransformer",
            remedy="use the program that it was made for, or an encoder with one vector for each text",
        )


def checked_modules(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Return the modules in modules.json. Raises InputError for a module outside the folder."""
    modules = listed_modules(folder)
    for module in modules:
        check_keys(module, "modules.json", folder / "modules.json", notes)
        if not is_inside(module["path"]):
            raise InputError(
                f"it names the folder {module['path']!r}",
                where=folder / "modules.json",
                expected="names of folders in the model's folder",
            )
    return modules


def add_module(found: ModuleSettings, folder: Path, module: dict[str, Any], at: int, program: str = "") -> None:
    """Add the settings of the module at position `at`. Dense layers have keys of their own in some programs."""
    package, kind = module["type"].split(".", 1)[0], module["type"].rsplit(".", 1)[-1]
    supported = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
    if package != "sentence_transformers" or kind not in supported:
        raise InputError(
            (
                f"its modules.json names {module['type']}, which is not supported; supported are "
                f"sentence-transformers' own {', '.join(supported)}"
            ),
            where=folder,
        )
    path = folder / module["path"]
    if kind == "Transformer":
        if module["path"] or at:
            raise InputError(
                (f"its body is in the subfolder {module['path']!r}, or is not the first module"),
                where=folder,
                expected="a body in the folder itself, as the first module",
                remedy=f"convert it with `drtools import-model {folder} -o FOLDER`, and pass that folder",
            )
        return
    config = optional_json(path / "config.json")
    if kind in WITH_FILES and not (path / "config.json").exists():
        raise InputError(
            "no config.json was found",
            where=path,
            expected=f"one in the folder of the module {kind} in modules.json",
            remedy="fetch the model again",
        )
    check_keys(config, f"{program}{kind}" if kind == "Dense" else kind, path / "config.json", found.notes)
    if kind == "Pooling":
        if found.pooling or found.head:
            raise InputError(
                "a pooling after another module, expected it directly after the body; such models are not supported",
                where=path,
            )
        found.pooling = _poolings(config, path / "config.json", found.notes)
        found.include_prompt = config.get("include_prompt") is not False
    elif kind != "Dropout":
        needed = {"Dense": ("in_features", "out_features"), "LayerNorm": ("dimension",)}.get(kind, ())
        lacking = [key for key in needed if config.get(key) is None]
        if lacking:
            raise InputError(
                f"no {lacking[0]} was found, which a {kind} has", where=path / "config.json", remedy=DAMAGED
            )
        found.head.append(_head_layer(kind, config, module["path"]))


def _poolings(config: dict[str, Any], path: Path, notes: list[str]) -> tuple[str, ...]:
    words = {word: ours for ours, (_, word) in POOLINGS.items()}
    theirs = config.get("pooling_mode")
    if theirs is None:
        flags = [key for key, _ in POOLINGS.values() if config.get(key) is not None]
        if not flags:
            notes.append(f"{path}: it has no pooling; mean is assumed, as in sentence-transformers")
            return ("mean",)
        asked = [word for key, word in POOLINGS.values() if config.get(key)]
    else:
        asked = [theirs] if isinstance(theirs, str) else theirs
    if not isinstance(asked, list) or not asked:
        raise InputError(
            "found no pooling that is on", where=path, expected=f"one of {', '.join(words)}", remedy=DAMAGED
        )
    unknown = [word for word in asked if word not in words]
    if unknown:
        raise InputError(f"pooling {unknown[0]!r} is not known; known are {', '.join(words)}", where=path)
    return tuple(words[word] for word in asked)


def _head_layer(kind: str, config: dict[str, Any], path: str) -> HeadLayer:
    if kind == "Normalize":
        return {"kind": "normalize"}
    if kind == "LayerNorm":
        return {"kind": "layer-norm", "dimension": config["dimension"], "path": path}
    activation = config.get("activation_function") or "torch.nn.modules.activation.Tanh"
    own = activation.startswith("torch.")  # any other one may compute anything
    return {
        "kind": "dense",
        "in": config["in_features"],
        "out": config["out_features"],
        "bias": config.get("bias") is not False,
        "activation": activation.rsplit(".", 1)[-1] if own else activation,
        "path": path,
    }


def prompt_of(config: dict[str, Any], name: str, folder: Path) -> str:
    """Return a prompt by its name. Raises InputError if there is none of that name."""
    prompts = config.get("prompts") or {}
    if name not in prompts:
        raise InputError(
            (
                f"default_prompt_name is {name!r}, and prompts has {', '.join(prompts) or 'none'}; the file was "
                "damaged, fetch the model again"
            ),
            where=folder / CONFIG,
        )
    return prompts[name] or ""


def _read_prompts(found: ModuleSettings, config: dict[str, Any], folder: Path) -> None:
    """Read the prompts of both sides. A prompt that is saved as "" is a prompt too, and means no text."""
    prompts = {name: text for name, text in (config.get("prompts") or {}).items() if text is not None}
    name = config.get("default_prompt_name")
    usual = prompt_of(config, name, folder) if name else ""
    found.query_prompt = prompts.get("query", usual)
    saved = [name for name in DOCUMENT_PROMPTS if name in prompts]
    found.document_prompt = prompts[saved[0]] if saved else usual
    other = next((name for name in saved if prompts[name]), None)
    if other and not found.document_prompt:
        found.notes.append(
            f"{folder}: its prompt {saved[0]!r} is empty and its prompt {other!r} is {prompts[other]!r}; documents get "
            f"none, as in sentence-transformers; pass {param('document_prompt')} {prompts[other]!r} for the other"
        )
    for side, own in (("query", prompts.keys() & {"query"}), ("document", prompts.keys() & {"document"})):
        taken = getattr(found, f"{side}_prompt")
        if taken and not own:  # sentence-transformers uses the side's own empty prompt first
            found.notes.append(
                f"{folder}: it has no prompt {side!r}, so texts of that side get {taken!r}; encode_{side} of "
                f"sentence-transformers uses none: pass --{side}-prompt '' for that"
            )
    _note_other_prompts(found, prompts, folder)


def _note_other_prompts(found: ModuleSettings, prompts: dict[str, str], folder: Path) -> None:
    """Report prompts with names that are not those of a side, such as `search_query`, if a side has no prompt."""
    of_documents = {name for name in prompts if any(word in name.lower() for word in DOCUMENT_PROMPTS)}
    for side, known, names in (
        ("query", {"query"}, prompts.keys() - of_documents),
        ("document", {*DOCUMENT_PROMPTS}, of_documents),
    ):
        others = [name for name in prompts if name in names - known and prompts[name]]
        if others and not known & prompts.keys() and not getattr(found, f"{side}_prompt"):
            listed = ", ".join(f"{name!r} ({prompts[name]!r})" for name in others[:3])
            listed += f" and {len(others) - 3} more" if len(others) > 3 else ""
            found.notes.append(
                f"{folder}: it has no prompt {side!r} but {listed}, so texts of that side get none; pass one, "
                f"such as --{side}-prompt {prompts[others[0]]!r}"
            )


def _read_vectors(found: ModuleSettings, config: dict[str, Any], folder: Path) -> None:
    """Read how vectors are compared, and the dimension to which they are truncated after all modules."""
    found.similarity = config.get("similarity_fn_name")
    length = config.get("truncate_dim")
    if length is not None:
        found.head.append({"kind": "truncate", "out": length})


def read_lengths(folder: Path, table: str, notes: list[str]) -> dict[str, Any]:
    """Return the checked settings of the first non-empty file with lengths, and `model_max_length`."""
    for name in LENGTH_FILES:
        config = optional_json(folder / name)
        if config:
            break
    check_keys(config, table, folder / name, notes)
    known = {"model_max_length": None}
    for key in (*KWARGS, *KWARGS.values()):
        kwargs = config.get(key) or {}
        check_keys(kwargs, KWARGS.get(key, key), folder / name)
        known["model_max_length"] = kwargs.get("model_max_length") or known["model_max_length"]
    return {**config, **known}
