"""Data sets of the Hugging Face hub: their files are fetched into its cache and read like a folder's."""

from __future__ import annotations

from drtools.errors import InputError, WorldError
from drtools.formats.collections.files import parts_of
from drtools.formats.collections.parts import Parts, ReadingOptions

PREFIX = "hf:"
READ = ["*.parquet", "*.arrow", "*.jsonl*", "*.json", "*.json.gz", "*.csv*", "*.tsv*"]


def parts_of_hub(name: str, options: ReadingOptions) -> Parts:
    """Return the parts of a data set on the hub: `hf:OWNER/NAME`, or with a revision `hf:OWNER/NAME@REVISION`.

    Files that are in the hub's cache are not fetched again; without a network (HF_HUB_OFFLINE=1) those alone are read.
    Raises WorldError if they cannot be fetched, InputError for a name that the hub does not have.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    try:
        folder = snapshot_download(repository, repo_type="dataset", revision=revision or None, allow_patterns=READ)
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise InputError(
            f"the hub has no such data set ({str(error).splitlines()[0][:200]})", where=name, expected="hf:OWNER/NAME"
        ) from None
    except LocalEntryNotFoundError:
        raise WorldError(
            f"{name}: is not in the hub's cache, and the hub cannot be reached; fetch it where there is "
            "a network, and pass its folder"
        ) from None
    except OSError as error:
        raise WorldError(f"{name}: could not be fetched ({' '.join(str(error).split())[:200]})") from None
    return parts_of(folder, None, options)
