"""Read the files of sentence-transformers' CrossEncoder: how it reads pairs, and what its score is read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError
from drtools.models.json_files import body_config, optional_json
from drtools.models.module_files import (
    CONFIG,
    ModuleSettings,
    add_module,
    checked_modules,
    model_type,
    prompt_of,
    read_lengths,
)
from drtools.models.module_keys import RANKER_TASKS, check_keys, check_output, check_requirements

LOGITS = ("Identity", "Sigmoid")  # activations of a single logit that keep the order of scores
TABLE = "CrossEncoder's sentence_bert_config.json"


class Chat(NamedTuple):
    """How a chat template gets a pair: the form of its messages, or None if the files do not say, and its arguments."""

    form: str | None
    arguments: dict[str, Any]


@dataclass
class CrossEncoderSettings:
    """The settings of a cross-encoder in its files.

    `prompt` is the text before each query, or with a `chat` template the system's message. `score_tokens` are the ids
    of the relevant and the irrelevant token of a language model, or only the first; empty for a classifier. `layers`
    are the pooling and the head above a body that is no classifier.
    """

    prompt: str = ""
    longest: int | None = None  # tokens of a pair
    lower_case: bool = False
    score_tokens: tuple[int, ...] = ()
    chat: Chat | None = None
    layers: ModuleSettings | None = None
    notes: list[str] = field(default_factory=list)


def has_ranker_files(folder: Path) -> bool:
    """Return whether sentence-transformers' CrossEncoder wrote a folder."""
    return (folder / "modules.json").exists() and model_type(folder) == "CrossEncoder"


def is_pooled(folder: Path) -> bool:
    """Return whether a folder has a cross-encoder of a body, a pooling and a head."""
    return has_ranker_files(folder) and _names(checked_modules(folder, []))[1:2] == ["Pooling"]


def _names(modules: list[dict[str, Any]]) -> list[str]:
    return [module["type"].rsplit(".", 1)[-1] for module in modules]


def read_ranker(folder: Path) -> CrossEncoderSettings:
    """Read the settings that sentence-transformers' CrossEncoder wrote, if there are any."""
    found = CrossEncoderSettings()
    activation = body_config(folder)
    said = (activation.get("sentence_transformers") or {}).get("activation_fn")
    said = said or activation.get("sbert_ce_default_activation_function")
    if has_ranker_files(folder):
        config = optional_json(folder / CONFIG)
        _read_modules(found, folder)
        check_keys(config, f"CrossEncoder's {CONFIG}", folder / CONFIG, found.notes)
        check_requirements(config, folder / CONFIG)
        name = config.get("default_prompt_name")
        found.prompt = prompt_of(config, name, folder) if name else ""
        lengths = read_lengths(folder, TABLE, found.notes)
        _check_task(lengths, found, folder)
        check_output(lengths, "last_hidden_state" if found.layers else "logits", folder, chat=not found.layers)
        found.chat = _chat(lengths, folder)
        found.longest = lengths.get("max_seq_length") or lengths["model_max_length"]
        found.lower_case = bool(lengths.get("do_lower_case"))
        said = config.get("activation_fn") or said
    if said and said.rsplit(".", 1)[-1] not in LOGITS:
        found.notes.append(f"{folder}: its activation {said} is not applied; scores are the logits")
    return found


def _read_modules(found: CrossEncoderSettings, folder: Path) -> None:
    """Read the score's tokens, or the layers above a body. Raises InputError for other modules."""
    modules = checked_modules(folder, found.notes)
    kinds = _names(modules)
    if kinds[:2] == ["Transformer", "Pooling"]:
        _read_layers(found, folder, modules)
        return
    if kinds not in (["Transformer"], ["Transformer", "LogitScore"]):
        raise InputError(
            f"its modules.json names {', '.join(module['type'] for module in modules)}",
            where=folder,
            expected="only the module Transformer, a sequence classifier, or Transformer and LogitScore, or "
            "Transformer, Pooling and layers up to a Dense that gives the scores",
        )
    if len(kinds) == 2:
        path = folder / modules[1]["path"] / "config.json"
        config = optional_json(path)
        check_keys(config, "LogitScore", path, found.notes)
        if config.get("true_token_id") is None:
            raise InputError("no true_token_id was found, which a LogitScore has", where=path)
        ids = [config["true_token_id"], config.get("false_token_id")]
        found.score_tokens = tuple(number for number in ids if number is not None)


def _read_layers(found: CrossEncoderSettings, folder: Path, modules: list[dict[str, Any]]) -> None:
    """Read the pooling and the layers above it. Raises InputError unless the last one is a Dense that gives scores."""
    found.layers = ModuleSettings()
    for at, module in enumerate(modules):
        add_module(found.layers, folder, module, at, "CrossEncoder's ")
    found.notes += found.layers.notes
    path = folder / modules[-1]["path"] / "config.json"
    outputs = [optional_json(folder / module["path"] / "config.json").get("module_output_name") for module in modules]
    if _names(modules)[-1] != "Dense" or outputs[-1] != "scores" or "scores" in outputs[:-1]:
        raise InputError(
            f"its last module is a {_names(modules)[-1]} with the output {outputs[-1]}",
            where=path,
            expected="a Dense with the output scores",
        )
    if not found.layers.include_prompt:
        raise InputError("include_prompt is false, which means that a prompt is not pooled", where=folder)
    if found.layers.head[-1]["out"] > 2:
        raise InputError(f"its last Dense has {found.layers.head[-1]['out']} outputs", where=path, expected="1 or 2")


def _check_task(lengths: Mapping[str, Any], found: CrossEncoderSettings, folder: Path) -> None:
    """Raise InputError for a Transformer that does not compute what the next module reads."""
    needed = "text-generation" if found.score_tokens else "sequence-classification"
    needed = "feature-extraction" if found.layers else needed
    task = lengths.get("transformer_task") or ("feature-extraction" if found.layers else "sequence-classification")
    output = lengths.get("module_output_name") or RANKER_TASKS[task]
    if (task, output) != (needed, RANKER_TASKS[needed]):
        raise InputError(
            f"its Transformer's task is {task} with the output {output}",
            where=folder,
            expected=f"{needed} with the output {RANKER_TASKS[needed]}, as its modules need",
        )


def _chat(lengths: Mapping[str, Any], folder: Path) -> Chat | None:
    """Return how a chat template gets a pair, or None if pairs are read without one."""
    arguments = lengths.get("processing_kwargs") or {}
    others = [name for name, value in arguments.items() if name != "chat_template" and value]
    message = (lengths.get("modality_config") or {}).get("message")
    if others or (arguments.get("chat_template") and message is None):
        raise InputError(
            f"its processing_kwargs are {dict(arguments)}, which means arguments of the tokenizer",
            where=folder,
            expected="only arguments of the chat template",
        )
    if message is None:
        return None
    own = dict(arguments.get("chat_template") or {})
    own.pop("restore_suffix", None)  # the end of the template is always kept
    return Chat(message.get("format"), own)
