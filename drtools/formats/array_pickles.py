"""Pickles of numpy's arrays and their ids, as Tevatron and DPR write vectors; nothing that a pickle names is run.

Tevatron writes (array [N, D], list of ids), DPR a list of (id, array [D]).
"""

from __future__ import annotations

import importlib
import pickle
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from drtools.errors import InputError
from drtools.formats.lines import local, open_bytes, shown
from drtools.formats.plain_pickles import PlainUnpickler

if TYPE_CHECKING:
    import numpy as np

# what arrays are pickled with beside numpy's numbers; its modules were renamed over the years
NAMES = ("_reconstruct", "_frombuffer", "ndarray")
MODULES = re.compile(r"numpy(\._?core\.(multiarray|numeric))?")


class _Arrays(PlainUnpickler):
    """An unpickler of arrays, numbers, texts and plain containers."""

    def find_class(self, module: str, name: str) -> object:
        """Return what numpy's arrays need; refuse any other name."""
        if name not in NAMES or not MODULES.fullmatch(module):
            return super().find_class(module, name)
        part = "numeric" if name == "_frombuffer" else "multiarray"
        try:
            home = importlib.import_module(f"numpy._core.{part}")
        except ImportError:  # numpy 1
            home = importlib.import_module(f"numpy.core.{part}")
        return getattr(home, name)


def read_array_pickle(path: str | Path) -> tuple[np.ndarray, list[object] | None]:
    """Read vectors [N, D] and their ids, None if the pickle holds an array alone; InputError for anything else."""
    import numpy as np

    expected = "(array, ids) of Tevatron, or a list of (id, vector) of DPR"
    try:
        with open_bytes(local(str(path))) as stream:
            value = _Arrays(stream).load()
    except (MemoryError, RecursionError):
        raise
    except pickle.UnpicklingError as error:
        raise InputError(f"not a pickle of vectors ({error})", where=shown(path), expected=expected) from None
    except (OSError, zlib.error, EOFError) as error:
        raise InputError(f"could not be read as a pickle ({error}); is the file whole?", where=shown(path)) from None
    except Exception as error:  # a damaged pickle fails in as many ways as Python has
        words = " ".join(str(error).split())[:200]
        raise InputError(f"a damaged pickle ({words})", where=shown(path), expected=expected) from None
    if isinstance(value, np.ndarray):
        return value, None
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray):
        ids = value[1].tolist() if isinstance(value[1], np.ndarray) else value[1]
        if isinstance(ids, list | tuple):
            return value[0], list(ids)
    if isinstance(value, list) and value and all(isinstance(row, tuple) and len(row) >= 2 for row in value):
        rows = [row[1] for row in value]
        if all(isinstance(row, np.ndarray) and row.ndim == 1 and row.shape == rows[0].shape for row in rows):
            return np.stack(rows), [row[0] for row in value]
    raise InputError(f"found a pickled {type(value).__name__}", where=shown(path), expected=expected)
