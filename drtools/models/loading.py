"""Load and save a Hugging Face model (a body or a classifier) and its tokenizer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from drtools import units
from drtools.errors import InputError, param
from drtools.models.bodies import plain_config
from drtools.models.device import native_precision
from drtools.models.lora_files import LINKED, added_lora, merge
from drtools.models.minicpm import LAYERWISE, layerwise_config
from drtools.models.settings import refuse_adapter
from drtools.models.specs import Precision
from drtools.models.tokenizers import check_tokenizer, tokenizer_config
from drtools.models.trust import check_code, check_family, check_shards, only_trusted_code
from drtools.models.unused import check_files
from drtools.models.weights import align_weights, has_half_floats, read_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def dtype_of(precision: Precision) -> torch.dtype:
    """Return the type of weights in a precision; with int8, of all that stays in floating point."""
    return DTYPES[native_precision("cpu") if precision == "int8" else precision]


class Loading(NamedTuple):
    """Differences between a checkpoint and a model: missing and unexpected tensors, and the checkpoint's classes."""

    missing: list[str]
    unexpected: list[str]
    architectures: list[str]


def load_weights(
    folder: Path,
    class_of: Callable[[PreTrainedConfig, Path], type[_BaseAutoModelClass]],
    trust_remote_code: bool = False,
    dropout: float | None = None,
    precision: Precision = "fp32",
    **changes: object,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Loading]:
    """Load a Hugging Face model, with the class that `class_of` returns for its configuration, and its tokenizer.

    Weights that are stored in 16 bits are loaded in `precision`, without a copy in float32. `changes` are set in the
    configuration. Missing tensors are drawn at random; the caller decides which may be missing. Only safetensors are
    read.
    """
    _quietly()
    refuse_adapter(folder)
    dtype = dtype_of(precision) if has_half_floats(folder) else torch.float32
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            "no .safetensors weights were found",
            where=folder,
            remedy=f"convert pickled weights with `drtools import-model {folder} -o FOLDER`, and pass that folder",
        )
    check_shards(folder)
    check_files(folder)
    try:
        with only_trusted_code(trust_remote_code):
            config, renamed, architectures = _read_config(folder, trust_remote_code, **changes)
            own_dropout = {} if dropout is None else _set_dropout(config, dropout, folder)
            if hasattr(config, "use_cache"):
                config.use_cache = False  # keys and values for continuing a text, which is never done here
            config.return_dict = True  # transformers 4 wrote false into some files; outputs would be tuples
            model, loading = class_of(config, folder).from_pretrained(
                folder,
                key_mapping=renamed or None,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # refused below, with their names
                output_loading_info=True,
            )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # each family raises its own errors for a damaged file
        if "allocate" in str(error):  # torch is out of memory
            raise
        raise _not_loaded(folder, error) from None
    _refuse_other_shapes(loading["mismatched_keys"], model, folder)
    if renamed:  # otherwise transformers would save them under their old names
        vars(model).pop("_weight_conversions", None)
    set_by_lora = _merge_lora(model, folder)
    align_weights(model)
    model.own_dropout = own_dropout
    tokenizer = load_tokenizer(model, folder, trust_remote_code)
    missing, unexpected = (sorted({*loading[kind]} - set_by_lora) for kind in ("missing_keys", "unexpected_keys"))
    return model, tokenizer, Loading(missing, unexpected, architectures)


def _merge_lora(model: PreTrainedModel, folder: Path) -> set[str]:
    """Add the LoRA of a linked folder to the weights. Returns the names of other tensors that it has set."""
    if added_lora(folder) is None:
        return set()
    return merge(model, folder / LINKED, read_tensors, folder, f"{model.base_model_prefix}.")


def load_outline(
    folder: Path,
    class_of: Callable[[PreTrainedConfig, Path], type[_BaseAutoModelClass]],
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the tokenizer of a Hugging Face model, and the model with shapes but without numbers."""
    _quietly()
    refuse_adapter(folder)
    try:
        with only_trusted_code(trust_remote_code), torch.device("meta"):
            config, *_ = _read_config(folder, trust_remote_code)
            model = class_of(config, folder).from_config(config, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _not_loaded(folder, error) from None
    return model, load_tokenizer(model, folder, trust_remote_code)


def _read_config(
    folder: Path, trust_remote_code: bool, **changes: object
) -> tuple[PreTrainedConfig, dict[str, str], list[str]]:
    """Return the configuration to load a model with, the renaming of its tensors, and the checkpoint's classes."""
    from transformers import AutoConfig

    layerwise = layerwise_config(folder)
    if layerwise is not None:
        return layerwise, {}, [LAYERWISE]
    if not trust_remote_code:
        check_code(folder)
        check_family(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **changes)
    architectures = list(config.architectures or [])
    return *plain_config(config, folder), architectures


def _not_loaded(folder: Path, error: Exception) -> InputError:
    return InputError(f"the model could not be loaded ({' '.join(str(error).split())[:300]})", where=folder)


def load_tokenizer(model: PreTrainedModel, folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer, with a padding token. Raises InputError if it does not belong to the model."""
    from transformers import AutoTokenizer

    tokenizer_config(folder)  # checks its values; transformers accepts any value and fails where it uses it
    try:
        with only_trusted_code(trust_remote_code):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # each family raises its own errors for missing files
        raise InputError(
            f"its tokenizer could not be loaded ({' '.join(str(error).split())[:200]})",
            where=folder,
            remedy="copy the tokenizer.json that belongs to the weights into the folder",
        ) from error
    check_tokenizer(tokenizer, model, folder)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "its tokenizer has neither a padding nor an end token",
                where=folder,
                remedy="add one to tokenizer_config.json",
            )
        tokenizer.pad_token = tokenizer.eos_token  # any token will do, since padding is masked
    return tokenizer


def _refuse_other_shapes(
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]], model: PreTrainedModel, folder: Path
) -> None:
    """Raise InputError for tensors whose shape differs: (name, shape in the weights, shape in the model)."""
    if mismatched:
        name, found, expected = min(mismatched, key=lambda each: str(each[0]))
        raise InputError(
            (
                f"the weights hold {units.counted(len(mismatched), 'tensor')} whose shape differs from its config.json "
                f"for a {model.config.model_type} model (first: {name}, found {list(found)}"
            ),
            where=folder,
            expected=f"{list(expected)})",
            remedy="use the config.json that belongs to the weights",
        )


def refuse_missing(missing: list[str], model: PreTrainedModel, folder: Path) -> None:
    """Raise InputError for missing tensors that may not be drawn at random."""
    if missing:
        raise InputError(
            (
                f"the weights lack {units.counted(len(missing), 'tensor')} of a {model.config.model_type} body (first: "
                f"{missing[0]}); it is not this body's checkpoint"
            ),
            where=folder,
        )


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """Write a Hugging Face model, with the dropout that its files had when it was loaded."""
    own = getattr(model, "own_dropout", {})  # models that were not loaded here have none
    asked = {name: getattr(model.config, name) for name in own}
    _set_all(model.config, own)
    model.save_pretrained(folder)
    _set_all(model.config, asked)


def _set_all(config: PreTrainedConfig, values: dict[str, float]) -> None:
    for name, value in values.items():
        setattr(config, name, value)


def without_truncation(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy without the truncation that tokenizing set, so that use does not change files and fingerprints."""
    tokenizer = copy.deepcopy(tokenizer)  # a thread may be using the original
    if tokenizer.truncation_side != "right":
        tokenizer.init_kwargs["truncation_side"] = tokenizer.truncation_side  # otherwise lost with the truncation
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _quietly() -> None:
    """Turn off transformers' messages and progress bars."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="transformers")


def _set_dropout(config: PreTrainedConfig, dropout: float, folder: Path) -> dict[str, float]:
    """Set each numeric dropout in a configuration; the names differ between families.

    Returns the old values.
    """
    own = {
        name: value
        for name, value in config.to_dict().items()
        if "dropout" in name and isinstance(value, float | int) and not isinstance(value, bool)
    }
    if not own:
        raise InputError(
            f"{folder} has no dropout in its configuration", where=param("dropout"), remedy="leave the flag out"
        )
    _set_all(config, dict.fromkeys(own, dropout))
    return own
