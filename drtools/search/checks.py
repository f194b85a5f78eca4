"""Refuse vectors and queries that cannot be searched; what searches them otherwise than exactly needs no torch."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np

from drtools.errors import InputError


def check_queries(queries: np.ndarray, dimension: int, what: str) -> None:
    """Refuse queries [Q, D] of another dimension than `what` is searched, or with a value that is not finite."""
    assert queries.dtype == np.float32
    if queries.shape[1] != dimension:
        raise InputError(
            f"the queries have {queries.shape[1]} dimensions and {what} {dimension}",
            remedy="encode both with one model",
        )
    finite = np.isfinite(queries).all(1)
    if not finite.all():
        raise InputError(
            f"query vector {finite.argmin()} (from 0): found NaN or infinity",
            expected="finite numbers",
            remedy="encode the queries again",
        )


def refuse_empty(vectors: Sized) -> None:
    """Refuse vectors without a row."""
    if len(vectors) == 0:
        raise InputError(
            "found no row",
            where=name(vectors),
            expected="at least one vector",
            remedy="encode a corpus that has documents",
        )


def refuse_not_finite(vectors: object, finite: np.ndarray, rows: range | np.ndarray) -> None:
    """Refuse the first of some rows [C] of vectors that is not finite [C]."""
    if not finite.all():
        raise InputError(
            f"{name(vectors)}, row {rows[finite.argmin()]} (from 0): found NaN or infinity",
            expected="finite numbers",
            remedy="encode the documents again",
        )


def name(vectors: object) -> str:
    """Name vectors by the file that they are mapped from."""
    return (
        f"the vectors in {vectors.filename}" if isinstance(vectors, np.memmap) and vectors.filename else "the vectors"
    )
