"""Upload of a finished output to the Hugging Face hub, without paths of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError, WorldError
from drtools.outputs import manifest
from drtools.outputs.places import without_places

MODELS = ("encoder", "ranker", "rem")  # kinds that are a model on the hub; all others are a data set
CARD = "README.md"


class Upload(NamedTuple):
    """The files to upload, by their names in the repository: a path, or bytes that differ from the file's."""

    repo_type: str
    files: dict[str, Path | bytes]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(each) if isinstance(each, bytes) else each.stat().st_size for each in self.files.values())


def upload_of(output: str, card: str | None) -> Upload:
    """Collect the files of an output: a folder, or a file with its manifest. `card` is for one that has none."""
    record = manifest.read(output)
    path = Path(output)
    manifest.check_whole(path, record, "make it again, and push that")
    cleaned = (json.dumps(_relative(without_places(dict(record))), ensure_ascii=False, indent=2) + "\n").encode()
    files: dict[str, Path | bytes] = {}
    if path.is_dir():
        root = path.resolve()
        files |= {
            each.relative_to(root).as_posix(): each
            for each in sorted(root.rglob("*"))
            if each.is_file() and not any(part.startswith(".") for part in each.relative_to(root).parts)
        }
        files[manifest.NAME] = cleaned
    else:
        files = {path.name: path.resolve(), manifest.beside(path).name: cleaned}
    if card is not None and CARD not in files:
        files[CARD] = card.encode()
    return Upload("model" if record.get("kind") in MODELS else "dataset", files)


def _relative(value: Any) -> Any:
    """Return a record in which absolute paths are their last part, those of files that are gone too."""
    if isinstance(value, Mapping):
        return {name: _relative(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_relative(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") and "\n" not in value else value


def push(upload: Upload, name: str, private: bool, message: str) -> str:
    """Create the repository if it is not there, and commit all files at once; return the commit's address."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=data) for path, data in upload.files.items()]
    try:
        api.create_repo(name, repo_type=upload.repo_type, private=private or None, exist_ok=True)
        done = api.create_commit(name, operations, commit_message=message, repo_type=upload.repo_type)
    except LocalTokenNotFoundError:
        raise InputError("no token for the hub was found", where=name, remedy="log in with `hf auth login`") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        words = " ".join(str(error).split())[:200]
        if status in (401, 403):
            raise InputError(
                f"the hub refused the upload ({status})", where=name, remedy="log in with `hf auth login`"
            ) from None
        raise WorldError(f"{name}: the hub did not take the upload ({words})") from None
    except (OSError, RuntimeError) as error:
        raise WorldError(f"{name}: the hub cannot be reached ({' '.join(str(error).split())[:200]})") from None
    return str(done.commit_url)
