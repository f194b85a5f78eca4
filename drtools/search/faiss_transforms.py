"""Transforms of vectors in a FAISS index (PCA, OPQ, L2norm ...) that keep inner products.

An index applies the same transform to documents and queries. A rotation keeps their inner products, and a rotation to
fewer dimensions keeps them approximately. FAISS's own PCA also subtracts the mean, which changes each document's score
by a different number; here PCA is trained without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param

if TYPE_CHECKING:
    import faiss

    from drtools.formats.joined_vectors import JoinedArray

LENGTH_TOLERANCE = 1e-2  # how far from 1 the length of a normalized vector may be; float16 rounding stays far below
ROWS_A_BLOCK = 16_384


def parts(index: faiss.Index) -> Iterator[faiss.Index]:
    """Yield an index and all indexes within it, with their own types."""
    import faiss

    index = faiss.downcast_index(index)
    yield index
    for inner in _inner(index):
        yield from parts(inner)


def _inner(index: faiss.Index) -> list[faiss.Index]:
    names = ("index", "base_index", "refine_index", "storage", "quantizer")
    return [getattr(index, name) for name in names if hasattr(index, name)]


def transforms(index: faiss.Index) -> list[faiss.VectorTransform]:
    """Return all transforms of an index (OPQ, PCA ...)."""
    import faiss

    return [step for part in parts(index) if isinstance(part, faiss.IndexPreTransform) for step in chain(part)]


def chain(index: faiss.IndexPreTransform) -> list[faiss.VectorTransform]:
    """Return the transforms of one index, with their own types."""
    import faiss

    steps: Any = index.chain  # a vector of C++; FAISS's stubs say that it is a list
    return [faiss.downcast_VectorTransform(steps.at(number)) for number in range(steps.size())]


def refuse_other_products(index: faiss.Index, factory: str) -> None:
    """Raise InputError for transforms that do not keep inner products, and for PCA to too many dimensions."""
    import faiss

    for step in transforms(index):
        if isinstance(step, faiss.PCAMatrix) and step.eigen_power:
            raise InputError(
                "PCAW scales each direction by a different factor, which does not keep the order of inner products",
                where=f"{param('factory')} {factory}",
                remedy="use PCA or PCAR, which rotate",
            )
        if isinstance(step, faiss.ITQTransform):
            raise InputError(
                "ITQ subtracts the mean and changes lengths, which does not keep the order of inner products",
                where=f"{param('factory')} {factory}",
                remedy="use PCA, PCAR or OPQ, which rotate",
            )
        if isinstance(step, faiss.PCAMatrix) and not 0 < step.d_out <= step.d_in:
            raise InputError(
                f"found PCA to {step.d_out} dimensions",
                where=f"{param('factory')} {factory}",
                expected=f"1 to {step.d_in}, those of the vectors",
            )


def note_cosines(index: faiss.Index, factory: str) -> None:
    """Report L2norm after a reduction, which compares the reduced vectors by their cosine.

    Whether that has a higher recall than inner products of the reduced vectors depends on the vectors.
    """
    import faiss

    least = None
    for step in transforms(index):
        if least and isinstance(step, faiss.NormalizationTransform):
            reporting.notice(
                1,
                f"{factory}: L2norm after a reduction to {least} dimensions compares the reduced vectors by their "
                "cosine, not by inner products; L2norm before the reduction keeps inner products: compare the two "
                f"with {param('check')}",
            )
        least = step.d_out if step.d_out < step.d_in else least


def refuse_lengths(vectors: np.ndarray | JoinedArray, factory: str) -> None:
    """Raise InputError for L2norm with vectors [N, D] whose length is not 1: it turns inner products into cosines."""
    if not re.search("L2[nN]orm", factory):
        return
    for start in range(0, len(vectors), ROWS_A_BLOCK):
        lengths = np.linalg.norm(np.asarray(vectors[start : start + ROWS_A_BLOCK], np.float32), axis=1)
        others = np.flatnonzero(np.abs(lengths - 1) > LENGTH_TOLERANCE)
        if len(others):
            raise InputError(
                (
                    f"L2norm compares by the cosine, and row {start + others[0]} of the vectors has length "
                    f"{lengths[others[0]]:.3g}"
                ),
                where=f"{param('factory')} {factory}",
                expected="1",
                remedy="leave L2norm out, or encode with normalization",
            )


def train_transforms(index: faiss.Index, points: np.ndarray) -> None:
    """Train every PCA within an index on points [n, D] without their mean, and the transforms before it.

    FAISS trains the rest of the index on the transformed points.
    """
    import faiss

    index = faiss.downcast_index(index)
    if not any(isinstance(step, faiss.PCAMatrix) and not step.is_trained for step in transforms(index)):
        return
    if isinstance(index, faiss.IndexPreTransform):
        for step in chain(index):
            if isinstance(step, faiss.PCAMatrix):
                train_without_mean(step, points)
            elif not step.is_trained:
                step.train(points)
            points = step.apply(points)
    for inner in _inner(index):
        train_transforms(inner, points)


def train_without_mean(pca: faiss.PCAMatrix, points: np.ndarray) -> None:
    """Make a PCA rotate points [n, D] onto the eigenvectors of their second moments, largest first, without a shift.

    Of all projections to this number of dimensions it has the smallest error (Eckart and Young 1936).
    """
    import faiss

    moments = np.zeros((pca.d_in, pca.d_in))
    for start in range(0, len(points), ROWS_A_BLOCK):
        block = points[start : start + ROWS_A_BLOCK].astype(np.float64)
        moments += block.T @ block
    values, vectors = np.linalg.eigh(moments / len(points))
    faiss.copy_array_to_vector(np.ascontiguousarray(vectors.T[::-1], np.float32).ravel(), pca.PCAMat)
    faiss.copy_array_to_vector(np.ascontiguousarray(values[::-1], np.float32), pca.eigenvalues)
    faiss.copy_array_to_vector(np.zeros(pca.d_in, np.float32), pca.mean)
    pca.prepare_Ab()
    pca.is_trained = True


def changes_products(index: faiss.Index) -> bool:
    """Whether an index subtracts a mean or scales directions, as PCA did in indexes built by drtools 0.1.0."""
    import faiss

    for step in transforms(index):
        if isinstance(step, faiss.ITQTransform) or (isinstance(step, faiss.PCAMatrix) and step.eigen_power):
            return True
        if isinstance(step, faiss.LinearTransform) and step.have_bias and faiss.vector_to_array(step.b).any():
            return True
    return False
