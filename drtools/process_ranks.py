"""The rank of this process among those that torchrun started, from the environment. A single process has rank 0.

Schedulers set RANK or LOCAL_RANK for other purposes. They count only together with WORLD_SIZE, which torchrun also
sets.
"""

import os

from drtools.errors import InputError


def rank() -> int:
    """Return the rank of this process among all processes on all machines, 0 if the environment is wrong."""
    try:
        return _number("RANK", 0, None) if world_size() > 1 and os.environ.get("RANK") else 0
    except InputError:  # world_size raises it; the line of the error must still be written
        return 0


def world_size() -> int:
    """Return the number of processes on all machines. Raises InputError if the environment is wrong."""
    if not os.environ.get("WORLD_SIZE"):
        return 1
    size = _number("WORLD_SIZE", 1, None)
    if os.environ.get("RANK"):
        _number("RANK", 0, size - 1)
    return size


def local_rank() -> int | None:
    """Return the rank of this process on its machine, None if torchrun did not start it."""
    return _number("LOCAL_RANK", 0, None) if os.environ.get("LOCAL_RANK") and os.environ.get("WORLD_SIZE") else None


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1, None) if os.environ.get("LOCAL_WORLD_SIZE") and world_size() > 1 else 1


def _number(name: str, least: int, most: int | None) -> int:
    text = os.environ.get(name, "").strip()
    number = int(text) if text.isascii() and text.isdigit() else -1
    if number < least or (most is not None and number > most):
        expected = f"a number from {least} on" if most is None else f"a number from {least} to {most}"
        raise InputError(
            f"found {text!r}",
            where=f"the environment's {name}",
            expected=expected,
            remedy=f"start several processes with torchrun, or unset {name} and WORLD_SIZE",
        )
    return number
