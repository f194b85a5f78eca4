"""Pickles of plain values: dictionaries, lists, texts and numbers. Nothing that a pickle names is run.

A pickle can call any function while it is read. Here everything but plain values and numpy's numbers is refused.
"""

import importlib
import io
import pickle
from typing import IO, Any

NUMBERS = ("scalar", "dtype")  # what numpy's numbers are pickled with; its modules were renamed over the years
MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")


class PlainUnpickler(pickle.Unpickler):
    """An unpickler of dictionaries, lists, texts and numbers; raises UnpicklingError for anything else."""

    def find_class(self, module: str, name: str) -> object:
        """Return what numpy's numbers need; refuse any other name."""
        return plain_class(module, name)


def plain_class(module: str, name: str) -> object:
    """Return what a pickle names, if numpy's numbers need it; UnpicklingError for any other name."""
    if module in MODULES and name in NUMBERS:
        return getattr(importlib.import_module(module), name)
    if (module, name) == ("_codecs", "encode"):  # how older protocols write the bytes of such a number
        return _latin
    raise pickle.UnpicklingError(f"it names {module}.{name}, which is not a plain value")


def _latin(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it names the encoding {encoding}, which is none of numbers")
    return text.encode("latin1")


def load(stream: IO[bytes] | io.BufferedIOBase) -> Any:
    """Read plain values from a stream, like `pickle.load`."""
    return PlainUnpickler(stream).load()


def loads(data: bytes) -> Any:
    """Read plain values from bytes, like `pickle.loads`."""
    return load(io.BytesIO(data))
