"""Where Milvus is: its URI, the names in it, and how long to wait for it."""

from __future__ import annotations

import os
import re

from drtools.errors import InputError, param

TOKEN, SECONDS = "MILVUS_TOKEN", "DRTOOLS_ENGINE_SECONDS"
LONGEST_WAIT = 60.0  # [ours] seconds for one answer of the server
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


def longest_wait() -> float:
    """Return how many seconds one answer may take."""
    text = os.environ.get(SECONDS, "")
    try:
        seconds = float(text or LONGEST_WAIT)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InputError(f"{SECONDS} is {text!r}", expected="a number of seconds")
    return seconds


def is_file(uri: str) -> bool:
    """Return whether a URI names a file of Milvus Lite."""
    return uri.endswith(".db") and "://" not in uri


def check_uri(uri: str) -> None:
    """Raise InputError for a URI that is not one of Milvus, or that holds a password, without showing it."""
    if is_file(uri):
        return
    found = re.fullmatch(r"(https?|tcp|unix)://([^/]+)(/[\w-]*)?", uri)
    if "@" in uri or "token" in uri.lower():
        raise InputError(
            "found a password or token, which would be written into the manifest",
            where=param("milvus"),
            remedy=f"put USER:PASSWORD or a key into the environment variable {TOKEN}",
        )
    if not found:
        raise InputError(
            where=f"{param('milvus')} {uri}", expected="http://HOST:PORT of a server, or a file FILE.db of Milvus Lite"
        )


def check_name(name: str, parameter: str) -> None:
    """Raise InputError for a name that Milvus does not allow."""
    if not NAME.fullmatch(name):
        raise InputError(
            where=f"{param(parameter)} {name}",
            expected="a letter or _, and up to 199 letters, digits and _",
        )
