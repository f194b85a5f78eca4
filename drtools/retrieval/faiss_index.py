"""Build, load and search FAISS indexes of inner product over rows of vectors.

Rows, not ids: a found row is the number of a vector, and -1 where FAISS has found fewer than it was asked for. Never index with -1.

Bytes: two builds with the same threads are the same file, except HNSW's, whose insertions race (with one thread they are too).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from drtools.errors import UserError
from drtools.retrieval import exact

if TYPE_CHECKING:
    import faiss
    import numpy as np

ADD_ROWS = 16_384
# [ours] twice FAISS's 40 a node cost little beside encoding and raise recall
DEFAULT_EF_CONSTRUCTION = 200
# FAISS's own bounds: fewer points a centroid and it warns, 65,536 points are all that product quantizers take.
WANTED_POINTS_PER_CENTROID = 39
TRAINING_POINTS_PER_CENTROID = 64
LEAST_TRAINING_POINTS = 65_536
# Under nq * d = 128,000 FAISS 1.15 multiplies without BLAS, five times slower for a product quantizer's 8 dimensions, whose training
# is nothing else; 20 is the default of the versions before, there compared with nq.
BLAS_THRESHOLD = 20


def build(
    vectors: np.ndarray,
    factory: str,
    path: str,
    train_sample: int | None = None,
    seed: int = 0,
    ef_construction: int | None = None,
    threads: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Build an index of vectors [N, D] by a FAISS factory string and write it to a path.

    Trains on `train_sample` rows drawn by `seed` (default: 64 a centroid and at least 65,536, N at most) and adds all rows in blocks.
    After each block `on_progress` is told how many of the N rows are added. Returns notes for the user: what was odd.
    Raises UserError for a factory that FAISS does not know or that cannot hold inner product, for too few vectors to train
    it, and for values that are not finite; OSError where the file cannot be written.
    """
    import faiss
    import numpy as np

    ...
