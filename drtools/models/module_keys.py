"""Every key that sentence-transformers reads from a model's files, and what drtools does with it.

A key is either used, or it does not change vectors and scores for the given reason. `Only` lists the values for which
this holds; a model with another value is refused. A key that is not in these tables is reported when the model is
loaded. The keys are those of sentence-transformers 6.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

from drtools.errors import InputError, param
from drtools.outputs.records import COUNT, FLAG, OBJECT, POSITIVE, TEXT, TEXTS, WHOLE, Kind, list_of, short

USED = "used"

# A layer after the pooling. A dense layer has all keys but `dimension`, a LayerNorm has `dimension` and `path`, a
# truncation has `out`. The names and their order are in the fingerprints of encoders.
HeadLayer = TypedDict(
    "HeadLayer",
    {
        "kind": Literal["dense", "layer-norm", "normalize", "truncate"],
        "in": int,
        "out": int,
        "bias": bool,
        "activation": str,
        "dimension": int,
        "path": str,
    },
    total=False,
)


class Only(NamedTuple):
    """An unused key: the values that change nothing, and the meaning of other values."""

    values: tuple[object, ...]
    meaning: str


NO_INPUT = "a layer that reads or writes something other than the vector of a text"
NO_KWARGS = "arguments that change how the body or its tokenizer is made"
DAMAGED = "the file was damaged, fetch the model again"
MULTI_VECTOR = "a model with a vector for each token (multi-vector, late interaction)"

# the tasks of a cross-encoder's Transformer, and what its output is called
RANKER_TASKS = {
    "sequence-classification": "scores",
    "text-generation": "causal_logits",
    "feature-extraction": "token_embeddings",
}

# keys of sentence_bert_config.json with the same meaning for encoders and cross-encoders
OF_BOTH: dict[str, str | Only] = {
    "query_expansion": Only((None,), MULTI_VECTOR),
    "tokenizer_name_or_path": Only((None, ""), "a tokenizer from elsewhere"),
    "unpad_inputs": "it affects only speed",
    "model_args": USED,
    "model_kwargs": USED,
    "tokenizer_args": USED,
    "processor_kwargs": USED,
    "config_args": USED,
    "config_kwargs": USED,
}

KEYS: dict[str, dict[str, str | Only]] = {
    "modules.json": {
        "idx": "only the order of the list matters",
        "name": "a label",
        "path": USED,
        "type": USED,
        "kwargs": "names of arguments to encode(), which no supported module has",
    },
    "config_sentence_transformers.json": {
        "__version__": "the versions that wrote the file",
        "model_type": USED,
        "requirements": USED,
        "prompts": USED,
        "default_prompt_name": USED,
        "similarity_fn_name": USED,
        "truncate_dim": USED,
    },
    "CrossEncoder's config_sentence_transformers.json": {
        "__version__": "the versions that wrote the file",
        "model_type": USED,
        "requirements": USED,
        "prompts": USED,
        "default_prompt_name": USED,
        "activation_fn": USED,
        "keep_in_fp32_modules": "the head always computes in float32",
    },
    "sentence_bert_config.json": {
        "max_seq_length": USED,
        "do_lower_case": USED,
        "query_length": USED,
        "document_length": USED,
        "modality_config": USED,
        "transformer_task": Only((None, "feature-extraction"), "another output than token states"),
        "module_output_name": Only((None, "token_embeddings"), "another output than token states"),
        "processing_kwargs": Only((None, {}), "arguments of the tokenizer"),
        **OF_BOTH,
    },
    "CrossEncoder's sentence_bert_config.json": {
        "max_seq_length": USED,
        "do_lower_case": USED,
        "query_length": "a length of SentenceTransformer's encode_query, which is not used for pairs",
        "document_length": "a length of encode_document, which is not used for pairs",
        "modality_config": USED,
        "transformer_task": Only((None, *RANKER_TASKS), "another output than logits or token states"),
        "module_output_name": Only((None, *RANKER_TASKS.values()), "another output than logits or token states"),
        "processing_kwargs": USED,
        **OF_BOTH,
    },
    "model_kwargs": {
        "dtype": f"{param('precision')} decides",
        "torch_dtype": f"{param('precision')} decides",
        "attn_implementation": "it affects only speed",
        "add_pooling_layer": "the output of a pooler is not used",
        "low_cpu_mem_usage": "it affects only memory",
        "device_map": f"{param('device')} chooses the device",
        "use_safetensors": "only safetensors are read",
        "trust_remote_code": f"{param('trust_remote_code')} decides; sentence-transformers drops the key too",
    },
    "processor_kwargs": {
        "model_max_length": USED,
        "padding_side": "texts are padded on the right, and padding is masked, so that its side changes no vector",
        "use_fast": "transformers 5 has only fast tokenizers",
        "trust_remote_code": f"{param('trust_remote_code')} decides; sentence-transformers drops the key too",
    },
    "config_kwargs": {
        "use_cache": "keys and values are not kept, since texts are not continued",
        "trust_remote_code": f"{param('trust_remote_code')} decides; sentence-transformers drops the key too",
    },
    "Pooling": {
        "embedding_dimension": "the body's own size counts",
        "word_embedding_dimension": "the body's own size counts",
        "pooling_mode": USED,
        "pooling_mode_cls_token": USED,
        "pooling_mode_max_tokens": USED,
        "pooling_mode_mean_tokens": USED,
        "pooling_mode_mean_sqrt_len_tokens": USED,
        "pooling_mode_weightedmean_tokens": USED,
        "pooling_mode_lasttoken": USED,
        "include_prompt": USED,
    },
    "Dense": {
        "in_features": USED,
        "out_features": USED,
        "bias": USED,
        "activation_function": USED,
        "module_input_name": Only((None, "sentence_embedding"), NO_INPUT),
        "module_output_name": Only((None, "sentence_embedding"), NO_INPUT),
        "use_residual": Only((None, False), "a layer whose input is added to its output"),
    },
    "CrossEncoder's Dense": {
        "in_features": USED,
        "out_features": USED,
        "bias": USED,
        "activation_function": USED,
        "module_input_name": Only((None, "sentence_embedding"), NO_INPUT),
        "module_output_name": USED,
        "use_residual": Only((None, False), "a layer whose input is added to its output"),
    },
    "LogitScore": {
        "true_token_id": USED,
        "false_token_id": USED,
        "module_input_name": Only((None, "causal_logits"), "another input than the logits of a language model"),
    },
    "LayerNorm": {"dimension": USED},
    "Normalize": {
        "module_input_name": Only((None, "sentence_embedding"), NO_INPUT),
        "module_output_name": Only((None, "sentence_embedding"), NO_INPUT),
    },
    "Dropout": {"dropout": f"used only in sentence-transformers' training; {param('dropout')} sets the body's"},
    # transformers reads these itself; each reason says why nothing else has to be done, or where it is done
    "tokenizer_config.json": {
        "model_max_length": USED,
        "truncation_side": USED,
        "padding_side": "texts are padded on the right, and padding is masked, so that its side changes no vector",
        "do_lower_case": USED,
        "add_bos_token": USED,
        "add_eos_token": USED,
        "chat_template": "texts are read as they are, as in SentenceTransformer; a CrossEncoder's is used if its files "
        "say so, else reported",
    },
    "drtools.json": {
        "kind": USED,
        "query_prompt": USED,
        "document_prompt": USED,
        "max_query_tokens": USED,
        "max_document_tokens": USED,
        "inherited": USED,
        "same_as": USED,
        "folded_rem": USED,
        "pieces": USED,
        "matryoshka": USED,
    },
    "a ranker's drtools.json": {
        "kind": USED,
        "longest_pair": USED,
        "max_query_tokens": USED,
        "max_document_tokens": USED,
        "segments": USED,
    },
    "CrossEncoder's config.json": {
        "sentence_transformers": USED,
        "sbert_ce_default_activation_function": USED,
    },
}


KINDS: dict[str, Kind] = {  # of used keys, in any file
    **dict.fromkeys(("max_seq_length", "query_length", "document_length", "truncate_dim"), COUNT),
    **dict.fromkeys(("in_features", "out_features", "dimension", "max_query_tokens", "max_document_tokens"), COUNT),
    "longest_pair": COUNT,
    **dict.fromkeys(("true_token_id", "false_token_id"), WHOLE),
    "model_max_length": POSITIVE,  # some files have 1e30 for no limit
    **dict.fromkeys(("do_lower_case", "include_prompt", "bias"), FLAG),
    **{key: FLAG for key in KEYS["Pooling"] if key.startswith("pooling_mode_")},
    **dict.fromkeys(("default_prompt_name", "similarity_fn_name", "model_type", "activation_fn", "path", "type"), TEXT),
    **dict.fromkeys(("activation_function", "query_prompt", "document_prompt", "folded_rem"), TEXT),
    "processing_kwargs": OBJECT,
    "segments": list_of(TEXT),
    **dict.fromkeys(("requirements", "modality_config", "inherited", "same_as", "pieces"), OBJECT),
    **dict.fromkeys(("model_args", "tokenizer_args", "config_args"), OBJECT),
    **dict.fromkeys(("model_kwargs", "processor_kwargs", "config_kwargs"), OBJECT),
    "prompts": TEXTS,
    "matryoshka": list_of(COUNT),
}

# keys of PyLate and ColBERT in config_sentence_transformers.json
MULTI_VECTOR_KEYS = {
    "query_prefix",
    "document_prefix",
    "query_length",
    "document_length",
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "skiplist_words",
}


def check_keys(config: dict[str, Any], table: str, path: Path, unknown: list[str] | None = None) -> None:
    """Raise InputError for a value in a configuration that is not supported and would change results, or is invalid.

    Sentences about unknown keys are appended to `unknown`. Without that list, an unknown key raises InputError too.
    """
    known = KEYS[table]
    for key, value in config.items():
        what = known.get(key)
        if what is None and unknown is None:
            raise InputError(
                f"{table} has {key!r} ({value!r}): {NO_KWARGS}; not supported, export it without", where=path
            )
        if what is None and unknown is not None:
            unknown.append(f"{path}: the key {key!r} is not known and is not used")
        if isinstance(what, Only) and value not in what.values:
            raise InputError(
                f"{key} is {value!r}, which means {what.meaning}; such models are not supported", where=path
            )
        if what == USED and value is not None and key in KINDS and not KINDS[key].fits(value):
            raise InputError(f"{key} is {short(value)}", where=path, expected=KINDS[key].words, remedy=DAMAGED)


def check_requirements(config: dict[str, Any], path: Path) -> None:
    """Raise InputError for a model that requires other versions of packages than the installed ones."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for name, wanted in (config.get("requirements") or {}).items():
        wanted = wanted.get("specifier", "") if isinstance(wanted, dict) else wanted
        try:
            installed = version("torch" if name == "pytorch" else name)
            met = SpecifierSet(wanted).contains(installed, prereleases=True)
        except (
            PackageNotFoundError,
            InvalidSpecifier,
            TypeError,
        ):  # requirements of custom classes, which are not used here
            continue
        if not met:
            raise InputError(
                f"the model requires {name} {wanted}, found {installed}", where=path, remedy="install that version"
            )


def check_output(config: dict[str, Any], output: str, folder: Path, chat: bool = False) -> None:
    """Raise InputError for a body with an unusual output, or unless `chat`, with a chat template for its texts."""
    for modality, what in (config.get("modality_config") or {}).items():
        if modality == "message" and not chat:
            raise InputError(
                ("its modality_config has 'message': texts are formatted with a chat template, which is not supported"),
                where=folder,
                remedy="remove that entry if texts are to be read as they are",
            )
        if modality == "text" and what != {"method": "forward", "method_output_name": output}:
            raise InputError(
                (
                    f"its modality_config uses {what} for texts, expected the method forward and its {output}; such "
                    "models are not supported"
                ),
                where=folder,
            )
