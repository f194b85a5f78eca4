"""Loading a Hugging Face model and its tokenizer from a folder, and writing them: bodies and classifiers alike."""

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
from drtools.models.settings import refuse_adapter
from drtools.models.tokenizers import check_tokenizer, tokenizer_config
from drtools.models.trust import check_code, check_shards, only_trusted_code
from drtools.models.unused import check_files
from drtools.models.weights import align_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass


class Loading(NamedTuple):
    """What of a checkpoint and a model did not meet: tensors that each lacks, by name, and the checkpoint's classes."""

    missing: list[str]
    unexpected: list[str]
    architectures: list[str]


def load_weights(
    folder: Path,
    class_of: Callable[[PreTrainedConfig, Path], type[_BaseAutoModelClass]],
    trust_remote_code: bool = False,
    dropout: float | None = None,
    **changes: object,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Loading]:
    """Load a Hugging Face model by the class that `class_of` chooses for its configuration, and its tokenizer.

    `changes` are made to the configuration. Tensors that the weights lack begin at random; the caller decides which
    may. Safetensors alone are read.
    """
    _quietly()
    refuse_adapter(folder)
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            "no .safetensors weights were found",
            where=folder,
            remedy=f"convert pickled weights with `drtools import-model {folder} -o FOLDER`, and name that folder",
        )
    check_shards(folder)
    check_files(folder)
    try:
        with only_trusted_code(trust_remote_code):
            config, renamed, architectures = _read_config(folder, trust_remote_code, **changes)
            own_dropout = {} if dropout is None else _set_dropout(config, dropout, folder)
            if hasattr(config, "use_cache"):
                config.use_cache = False  # of keys and values, to continue a text: memory that nothing here would read
            config.return_dict = True  # transformers 4 wrote false into some files, and outputs would have no names
            model, loading = class_of(config, folder).from_pretrained(
                folder,
                key_mapping=renamed or None,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # what a damaged file makes of each family is an error of its own
        if "allocate" in str(error):  # torch's, of memory
            raise
        raise _not_loaded(folder, error) from None
    _refuse_other_shapes(loading["mismatched_keys"], model, folder)
    if renamed:  # or transformers would give them their old names again when it saves
        vars(model).pop("_weight_conversions", None)
    align_weights(model)
    model.own_dropout = own_dropout
    tokenizer = load_tokenizer(model, folder, trust_remote_code)
    missing, unexpected = (sorted(loading[kind]) for kind in ("missing_keys", "unexpected_keys"))
    return model, tokenizer, Loading(missing, unexpected, architectures)


def load_outline(
    folder: Path,
    class_of: Callable[[PreTrainedConfig, Path], type[_BaseAutoModelClass]],
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a Hugging Face model's tokenizer, beside the model with the shapes of its tensors but without numbers."""
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
    """Return the configuration to load a model by, how its tensors are renamed, and the checkpoint's classes."""
    from transformers import AutoConfig

    if not trust_remote_code:
        check_code(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **changes)
    architectures = list(config.architectures or [])
    return *plain_config(config, folder), architectures


def _not_loaded(folder: Path, error: Exception) -> InputError:
    return InputError(f"the model could not be loaded ({' '.join(str(error).split())[:300]})", where=folder)


def load_tokenizer(model: PreTrainedModel, folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer, with a padding token; one that does not belong to the model is refused."""
    from transformers import AutoTokenizer

    tokenizer_config(folder)  # which checks it: transformers takes any value, and fails where it uses it
    try:
        with only_trusted_code(trust_remote_code):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # without its files each family fails in its own way
        raise InputError(
            f"its tokenizer could not be loaded ({' '.join(str(error).split())[:200]})",
            where=folder,
            remedy="put the tokenizer.json that belongs to the weights beside them",
        ) from error
    check_tokenizer(tokenizer, model, folder)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "its tokenizer has neither a padding nor an end token",
                where=folder,
                remedy="add one to tokenizer_config.json",
            )
        tokenizer.pad_token = tokenizer.eos_token  # masked out, so which one it is does not matter
    return tokenizer


def _refuse_other_shapes(
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]], model: PreTrainedModel, folder: Path
) -> None:
    """Refuse tensors (name, shape in the weights, shape in the model) that do not fit the configuration."""
    if mismatched:
        name, found, expected = min(mismatched, key=lambda each: str(each[0]))
        raise InputError(
            (
                f"the weights hold {units.counted(len(mismatched), 'tensor')} of another shape than its config.json "
                f"asks of a {model.config.model_type} model (first: {name}, found {list(found)}"
            ),
            where=folder,
            expected=f"{list(expected)})",
            remedy="use the config.json that belongs to the weights",
        )


def refuse_missing(missing: list[str], model: PreTrainedModel, folder: Path) -> None:
    """Refuse weights that lack tensors which may not begin at random."""
    if missing:
        raise InputError(
            (
                f"the weights lack {units.counted(len(missing), 'tensor')} of a {model.config.model_type} body (first: "
                f"{missing[0]}); it is not this body's checkpoint"
            ),
            where=folder,
        )


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """Write a Hugging Face model, with its own dropout in place of what `load_weights` was asked for."""
    own = getattr(model, "own_dropout", {})  # a model made elsewhere has none
    asked = {name: getattr(model.config, name) for name in own}
    _set_all(model.config, own)
    model.save_pretrained(folder)
    _set_all(model.config, asked)


def _set_all(config: PreTrainedConfig, values: dict[str, float]) -> None:
    for name, value in values.items():
        setattr(config, name, value)


def as_new(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy without the truncation that tokenizing set, so that use changes no file and no fingerprint."""
    tokenizer = copy.deepcopy(tokenizer)  # a thread may be tokenizing with the one that is in use
    if tokenizer.truncation_side != "right":
        tokenizer.init_kwargs["truncation_side"] = tokenizer.truncation_side  # or it would be lost with the truncation
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _quietly() -> None:
    """Keep transformers' own notes and bars from a user who did not ask for them."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="transformers")


def _set_dropout(config: PreTrainedConfig, dropout: float, folder: Path) -> dict[str, float]:
    """Set every dropout of a configuration that is a number (the names differ between families).

    Return what they were.
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
