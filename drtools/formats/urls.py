"""Inputs that are URLs, read as streams: http and https by Python itself, others (s3, gs, hf, memory ...) by fsspec."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

from drtools.errors import InputError, WorldError

URL = re.compile(r"[a-z][a-z0-9+.-]+://")
WEB = ("http", "https")
SECONDS_TO_WAIT = 60.0


def is_url(path: str) -> bool:
    """Return whether an input is named by a URL."""
    return bool(URL.match(path))


def without_secrets(url: str) -> str:
    """Return a URL without user, password, query and fragment, which may hold a signature or a token."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def open_url(url: str) -> Iterator[BinaryIO]:
    """Open a URL for reading.

    Raises InputError if there is no such file or nothing can read such URLs, and WorldError if it cannot be reached.
    """
    import urllib.error  # slow to import, and not needed for --help
    import urllib.request

    scheme, name = urlsplit(url).scheme, without_secrets(url)
    try:
        if scheme in WEB:
            with urllib.request.urlopen(url, timeout=SECONDS_TO_WAIT) as stream:
                yield cast(BinaryIO, stream)
        else:
            with importlib.import_module("fsspec").open(url, "rb") as stream:
                yield stream
    except (InputError, WorldError):
        raise
    except urllib.error.HTTPError as error:
        kind = InputError if error.code in (401, 403, 404, 410) else WorldError
        raise kind(f"{name}: the server answers {error.code} {error.reason}") from None
    except FileNotFoundError:
        raise InputError("there is no such file", where=name) from None
    except ImportError as error:
        raise InputError(
            f"a package that reads {scheme} is not installed ({error})",
            where=name,
            remedy=f"install it (`pip install 'fsspec[{scheme}]'`), or copy the file to this machine",
        ) from None
    except ValueError as error:
        raise InputError(f"cannot be read ({error})", where=name, remedy="copy the file to this machine") from None
    except (OSError, RuntimeError) as error:
        raise WorldError(f"{name}: cannot be read ({error or type(error).__name__})") from None
