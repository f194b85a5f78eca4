"""Specifications of indexing, searching and fusing: BM25, FAISS, joined vectors, pieces, runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from drtools.formats.dropped import ALLOW_DROPPED
from drtools.search.lucene import Rm3


@dataclass(frozen=True)
class JoiningSpec:
    """How the two scores of joined vectors are weighted. Values that are not given are those of concat-spar."""

    mu: float | None = None
    mu_by_query: str | None = None
    second_model: str | None = None

    @property
    def given(self) -> list[str]:
        """The names of the values that are given."""
        return [each.name for each in fields(JoiningSpec) if getattr(self, each.name) is not None]


@dataclass(frozen=True)
class MultiVectorSpec:
    """Whether and how documents are also scored by their pieces."""

    multi_vector: bool = False
    rescore: int | None = None
    gamma: float | None = None
    tune: str | None = None
    tune_queries: str | None = None
    tune_measure: str | None = None


@dataclass(frozen=True)
class FusionSpec:
    """How lists are fused: by reciprocal rank with the constant `k`, or by a weighted sum of scores (`linear`).

    `missing` is the score of a document that is not in a list.
    """

    method: Literal["rrf", "linear"] = "rrf"
    k: float = 60.0
    normalization: Literal["none", "min-max", "z-score"] = "none"
    missing: Literal["lowest", "zero"] = "lowest"
    depth: int = 1000
    ignore_identical_ids: bool = False


@dataclass(frozen=True)
class LuceneSpec:
    """A corpus to index for BM25; `document_vectors` stores the term vectors that RM3 needs."""

    corpus: str
    language: str = "en"
    document_vectors: bool = False
    title_separator: str = " "
    threads: int = 0


@dataclass(frozen=True)
class FaissSpec:
    """A vectors folder to index with FAISS, by a factory string or by changing the index `update`.

    With `check` recall is measured against exact search, with query vectors (`check_queries`) or with a sample of the
    documents. `update` may have a share of at most `allow_dropped` of documents whose ids are gone. GPUs of `device`
    train the index and find the lists of its rows.
    """

    vectors: str
    factory: str | None = None
    update: str | None = None
    train_sample: int | None = None
    ef_construction: int | None = None
    check: bool = False
    check_queries: str | None = None
    check_depth: int = 100
    seed: int = 42
    threads: int = 0
    allow_dropped: float = ALLOW_DROPPED
    device: str = "auto"


@dataclass(frozen=True)
class SuggestionSpec:
    """Vectors to compare FAISS factories on: at most `sample` of them, with at most `queries` queries.

    Without query vectors, a sample of the documents serves as queries. Without factories, a dozen are compared.
    """

    vectors: str
    query_vectors: str | None = None
    factory: list[str] | None = None
    sample: int | None = None
    queries: int = 1000
    seed: int = 42
    threads: int = 0


@dataclass(frozen=True)
class SourceSpec:
    """What to search: a Lucene or FAISS index, vectors, or the documents of the run `rerank` by vectors or texts.

    `corpus` has the texts of a run's documents. `k1`, `b` and `rm3` are for a Lucene index, `nprobe` and `ef_search`
    for a FAISS index or one in Milvus, whose fields `filter` is about. With `rescore`, that many hits of such an index
    are scored by `vectors`.
    """

    index: str | None = None
    vectors: str | None = None
    rerank: str | None = None
    corpus: str | None = None
    query_vectors: str | None = None
    title_separator: str = " "
    k1: float = 0.9
    b: float = 0.4
    rm3: Rm3 | None = None
    nprobe: int | None = None
    ef_search: int | None = None
    rescore: int | None = None
    filter: str | None = None
