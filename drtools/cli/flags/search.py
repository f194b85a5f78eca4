"""Flags for search: joined vectors, and scoring by pieces."""

import math
from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import Role, given_flags
from drtools.errors import InputError
from drtools.evaluation.measures import parse_measure
from drtools.search.specs import JoiningSpec, MultiVectorSpec

JOINED = "Joined vectors (concat-spar)"
PIECES = "Pieces"


@dataclass(frozen=True)
class JoiningFlags(JoiningSpec):
    """How the two scores of joined vectors are weighted. Values that are not given are those of concat-spar."""

    mu: Annotated[
        float | None, Option(help="weight of the second encoder's scores; default: as joined", rich_help_panel=JOINED)
    ] = None
    mu_by_query: Annotated[
        str | None,
        Option(help="TSV file with a weight for each query: `query-id<TAB>mu`", rich_help_panel=JOINED),
        Role.INPUT,
    ] = None
    second_model: Annotated[
        str | None,
        Option(help="second encoder; --model is the first; default: the one that was joined", rich_help_panel=JOINED),
        Role.MODEL,
    ] = None

    def __post_init__(self) -> None:
        if self.mu is not None and self.mu_by_query is not None:
            raise InputError(
                "--mu and --mu-by-query both set the weight of the second encoder", remedy="leave one of the two out"
            )
        if self.mu is not None:
            check_weight(self.mu)


@dataclass(frozen=True)
class MultiVectorFlags(MultiVectorSpec):
    """Whether and how documents are also scored by their pieces."""

    multi_vector: Annotated[
        bool,
        Option(
            "--multi-vector",
            help="with --vectors: also score the top documents by their passages and sentences",
            rich_help_panel=PIECES,
        ),
    ] = False
    rescore: Annotated[
        int | None,
        Option(
            min=0,
            help="number of top documents to score again, at least --depth; 0: all (for small collections). With "
            "--multi-vector by their pieces (default: 1000), with a FAISS index by their vectors (default: not)",
        ),
    ] = None
    gamma: Annotated[
        float | None,
        Option(min=0, help="weight of the best passage and the best sentence; default: 0.4", rich_help_panel=PIECES),
    ] = None
    tune: Annotated[str | None, Option(help="dev qrels to tune gamma on", rich_help_panel=PIECES), Role.INPUT] = None
    tune_queries: Annotated[
        str | None, Option(help="queries of --tune; default: --queries", rich_help_panel=PIECES), Role.INPUT
    ] = None
    tune_measure: Annotated[
        str | None,
        Option("--tune-on", "--tune-measure", help="measure to tune for; default: nDCG@10", rich_help_panel=PIECES),
    ] = None

    def check(
        self, vectors: str | None, rerank: str | None, queries: str | None, words: str | None, index: str | None
    ) -> None:
        """Raise InputError for flags that do not go together, or for an unknown measure."""
        given = given_flags(
            {
                "rescore": None if index else self.rescore,
                "gamma": self.gamma,
                "tune": self.tune,
                "tune_queries": self.tune_queries,
                "tune_on": self.tune_measure,
            }
        )
        if given and not self.multi_vector:
            raise InputError(
                "this needs --multi-vector",
                where=" and ".join(given),
                remedy="pass it too, or leave this out",
            )
        if self.multi_vector and (not vectors or rerank or index):
            raise InputError("--multi-vector needs --vectors, and cannot be used with --rerank or --index")
        if words is not None and (self.tune or self.tune_queries):
            raise InputError(
                "--tune needs --queries; it cannot be used with a single question",
                remedy="use --gamma with the value that an earlier tuning found",
            )
        if self.tune_queries and not self.tune:
            raise InputError("this needs --tune", where="--tune-queries", remedy="use --tune QRELS too")
        if self.tune and self.gamma is not None:
            raise InputError("--tune and --gamma both set gamma", remedy="leave one of the two out")
        if self.tune_measure:
            if not self.tune:
                raise InputError("this needs --tune", where="--tune-on", remedy="use --tune QRELS too")
            parse_measure(self.tune_measure)
        if self.tune and not (queries or self.tune_queries):
            raise InputError("--tune needs the texts of the judged queries", remedy="use --queries or --tune-queries")


def check_weight(mu: float) -> None:
    """Raise InputError unless `mu` is finite and 0 or more."""
    if not 0 <= mu < math.inf:
        raise InputError(where=f"--mu {mu:g}", expected="a finite number, 0 or more")
