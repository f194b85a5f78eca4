"""Settings of SPAR."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from drtools.errors import InputError, param
from drtools.training.specs import ShapeSpec

TWIN_EPOCHS, TWIN_WARMUP_STEPS = 20, 10_000  # Chen et al. 2022
TWIN_TOKENS = 256  # maximum, for queries and documents


@dataclass(frozen=True)
class TwinSettings:
    """Changes to the encoder (Lambda) before it is trained, and its negatives."""

    tied: bool = False
    head: Literal["keep", "projection", "none"] = "keep"
    hard_negatives: int = 1
    mask_positives: bool = False

    @property
    def shape(self) -> ShapeSpec:
        """The changes to the encoder before it is trained."""
        return ShapeSpec(untied=not self.tied, head=self.head)


@dataclass(frozen=True)
class BesideSpec:
    """Fixed vectors of another encoder, and the trained weight of its scores (SPAR's joint training)."""

    beside_documents: str | None = None
    beside_queries: str | None = None
    mu: float | None = None

    def __post_init__(self) -> None:
        """Raise InputError for only one of the two folders of vectors, and for a mu without them."""
        alone = bool(self.beside_documents) != bool(self.beside_queries)
        if alone or (self.mu is not None and not (self.beside_documents and 0 < self.mu < math.inf)):
            raise InputError(
                f"{param('beside_documents')} VECTORS and {param('beside_queries')} VECTORS are used together; "
                f"{param('mu')} needs both, and must be above 0"
            )


@dataclass(frozen=True)
class TargetSpec:
    """Vectors of a lexical encoder that an encoder learns to compute, in place of its teacher's ranks."""

    target_documents: str | None = None
    target_queries: str | None = None

    def __post_init__(self) -> None:
        """Raise InputError for only one of the two folders of vectors."""
        if bool(self.target_documents) != bool(self.target_queries):
            raise InputError(
                f"{param('target_documents')} VECTORS and {param('target_queries')} VECTORS are used together"
            )


@dataclass(frozen=True)
class ExampleDevSpec:
    """Examples labelled by rank, to evaluate on during training."""

    dev_examples: str | None = None
    dev_queries: str | None = None


@dataclass(frozen=True)
class JoiningPlan:
    """How two folders of vectors are joined. Without `mu`, it is tuned.

    If `copied` is false, the folder only names both folders and has no vectors.
    """

    how: Literal["concat", "sum"] = "concat"
    mu: float | None = None
    dtype: Literal["float16", "float32"] | None = None
    copied: bool = True


@dataclass(frozen=True)
class MuTuning:
    """The data to tune mu on: judgements, or answers and the corpus to look for them in; queries or their vectors.

    `query_vectors` are folders from the first and the second encoder.
    """

    qrels: str | None = None
    answers: str | None = None
    corpus: str | None = None
    answer_match: Literal["string", "regex"] = "string"
    queries: str | None = None
    query_vectors: tuple[str, str] | None = None
    measure: str = "RR@10"


@dataclass(frozen=True)
class LexicalPlan:
    """A lexical encoder without attention. Its rows are fitted to a corpus (`static`) or random (`projection`).

    `queries` are typical queries, limited to those judged in `only`. Without queries, a rule by document frequency is
    used.
    """

    encoder: Literal["static", "projection"] = "static"
    dimension: int = 768
    language: str = "en"
    k1: float = 0.9
    b: float = 0.4
    queries: str | None = None
    only: str | None = None
    fit_documents: int = 50_000
    fit_terms: int = 200_000
    seed: int = 42


@dataclass(frozen=True)
class SamplingSpec:
    """Which sentences of a corpus become queries: all, or the paper's share of each passage in an article.

    `article_key` is the field with a passage's article: `title`, or a key of the JSONL. With `count`, exactly this
    number is kept, drawn uniformly.
    """

    corpus: str
    article_key: str | None = None
    language: str = "en"
    count: int | None = None
    shuffle: bool = False
    seed: int = 42
