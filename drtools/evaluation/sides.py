"""Vectors of queries and documents in place of a run: open them, and keep the queries and documents with vectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.vectors import Vectors, open_document_vectors, open_query_vectors

Kept = TypeVar("Kept")


class Sides(NamedTuple):
    """Vectors of documents, and vectors of queries that go with them."""

    documents: Vectors
    queries: Vectors


def open_sides(documents: Sequence[str], queries: Mapping[str, str]) -> dict[str, Sides]:
    """Open {label: both sides} of query vectors by label; documents are one folder for all, or one for each."""
    folders = list(documents) * (len(queries) if len(documents) == 1 else 1)
    if len(folders) != len(queries):
        raise InputError(
            f"{len(documents)} {param('vectors')} for {len(queries)} {param('query_vectors')}",
            expected="one for all, or one for each, in the same order",
        )
    opened: dict[str, Vectors] = {}
    found = {}
    for folder, (label, path) in zip(folders, queries.items(), strict=True):
        if folder not in opened:
            opened[folder] = open_document_vectors(folder)
        found[label] = Sides(opened[folder], open_query_vectors(path, opened[folder]))
    return found


def with_vectors(asked: dict[str, Kept], sides: Mapping[str, Sides]) -> dict[str, Kept]:
    """Return the entries of the queries for which every label has a vector; report the others."""
    for label, one in sides.items():
        lacking = {query for query in asked if one.queries.ids.row_of(query) is None}
        if len(lacking) == len(asked):
            raise InputError(
                (
                    f"holds no vector of any of the {len(asked):,} queries, for instance {min(lacking, default='')!r}; "
                    "do the query vectors and the other file belong together?"
                ),
                where=label,
            )
        reporting.notice(
            len(lacking),
            f"{label} has no vector of {len(lacking):,} of {len(asked):,} queries; they are left out",
        )
        asked = {query: kept for query, kept in asked.items() if query not in lacking}
    return asked


def with_documents(relevant: dict[str, set[str]], sides: Mapping[str, Sides]) -> dict[str, set[str]]:
    """Return the relevant documents of each query for which every label has a vector; report the others."""
    for vectors in {id(one.documents): one.documents for one in sides.values()}.values():
        known = {
            query: {document for document in documents if vectors.ids.row_of(document) is not None}
            for query, documents in relevant.items()
        }
        judged, kept = (sum(map(len, each.values())) for each in (relevant, known))
        if not kept:
            raise InputError(
                (
                    f"holds none of the {judged:,} relevant documents, for instance "
                    f"{min(map(min, relevant.values()))!r}; do the vectors and the judgements belong together?"
                ),
                where=vectors.path,
            )
        reporting.notice(
            judged - kept, f"{vectors.path} lacks {judged - kept:,} of {judged:,} relevant documents; they are left out"
        )
        relevant = {query: documents for query, documents in known.items() if documents}
    return relevant


def rows_of(vectors: Vectors, documents: Collection[str]) -> np.ndarray:
    """Return the rows of the documents that have a vector."""
    rows = [vectors.ids.row_of(document) for document in documents]
    return np.array([row for row in rows if row is not None], np.int64)


def query_rows(sides: Sides, queries: Sequence[str]) -> np.ndarray:  # -> float32 [Q, D]
    """Return the vectors of the queries that have one."""
    return np.asarray(sides.queries.array[rows_of(sides.queries, queries)], np.float32)
