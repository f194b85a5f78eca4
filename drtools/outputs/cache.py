"""The folder on this machine where what can be made again is kept."""

import os
from pathlib import Path


def cache_path() -> Path:
    """Return where what can be made again is kept: $DRTOOLS_CACHE, else drtools under $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("DRTOOLS_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drtools"


def cache_directory() -> Path:
    """Return that folder, made if it is not there."""
    folder = cache_path()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
