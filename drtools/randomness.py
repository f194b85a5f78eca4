"""Random generators that depend on what is drawn, not on when, so that stopped work continues exactly."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def generator(*parts: object) -> np.random.Generator:
    """Return a generator that is seeded with its parts (seed, epoch, query id ...), the same on every machine."""
    import numpy as np

    words = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(words, "little"))
