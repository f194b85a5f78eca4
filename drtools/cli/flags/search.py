"""Flags of search: vectors that were joined, and pieces."""

import math
from dataclasses import asdict, dataclass
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
    """How queries of vectors that concat-spar joined are weighed; what is not said is as it was joined."""

    mu: Annotated[float | None, Option(help="weight of the second encoder's scores", rich_help_panel=JOINED)] = None
    mu_by_query: Annotated[
        str | None, Option(help="TSV `query-id<TAB>mu`: a weight for each query", rich_help_panel=JOINED), Role.INPUT
    ] = None
    second_model: Annotated[
        str | None,
        Option(help="the second encoder, as --model is the first; default: as joined", rich_help_panel=JOINED),
        Role.MODEL,
    ] = None

    def __post_init__(self) -> None:
        if self.mu is not None and self.mu_by_query is not None:
            raise InputError(
                "--mu and --mu-by-query both say how queries are weighed", remedy="leave one of the two out"
            )
        if self.mu is not None:
            check_weight(self.mu)

    @property
    def said(self) -> list[str]:
        """The flags that were said."""
        return given_flags(asdict(self))


@dataclass(frozen=True)
class MultiVectorFlags(MultiVectorSpec):
    """Whether and how pieces are scored besides documents."""

    multi_vector: Annotated[
        bool,
        Option("--multi-vector", help="--vectors: score the top documents by their pieces too", rich_help_panel=PIECES),
    ] = False
    rescore: Annotated[
        int | None,
        Option(
            min=0,
            help="by how many of a query's top documents to do so, --depth at the least; 0: all, of a small "
            "collection; default: 1000",
            rich_help_panel=PIECES,
        ),
    ] = None
    gamma: Annotated[
        float | None,
        Option(min=0, help="weight of the best passage and the best sentence; default: 0.4", rich_help_panel=PIECES),
    ] = None
    tune: Annotated[
        str | None, Option(help="qrels (dev): choose gamma on them", rich_help_panel=PIECES), Role.INPUT
    ] = None
    tune_queries: Annotated[
        str | None, Option(help="their queries; default: --queries", rich_help_panel=PIECES), Role.INPUT
    ] = None
    tune_measure: Annotated[str | None, Option(help="what to tune for; default: nDCG@10", rich_help_panel=PIECES)] = (
        None
    )

    def check(self, vectors: str | None, rerank: str | None, queries: str | None, words: str | None) -> None:
        """Raise InputError for flags that mean nothing together, or for no measure."""
        said = given_flags(
            {
                "rescore": self.rescore,
                "gamma": self.gamma,
                "tune": self.tune,
                "tune_queries": self.tune_queries,
                "tune_measure": self.tune_measure,
            }
        )
        if said and not self.multi_vector:
            raise InputError(
                "for pieces, which --multi-vector scores",
                where=" and ".join(said),
                remedy="pass it too, or leave these out",
            )
        if self.multi_vector and (not vectors or rerank):
            raise InputError("--multi-vector scores pieces beside --vectors, without --rerank")
        if words is not None and (self.tune or self.tune_queries):
            raise InputError(
                "--tune chooses gamma before a run is written; for a question say the --gamma that it chose"
            )
        if self.tune_queries and not self.tune:
            raise InputError("the queries of --tune, which was not said", where="--tune-queries")
        if self.tune and self.gamma is not None:
            raise InputError("--tune chooses gamma, --gamma says it", expected="one of them")
        if self.tune_measure:
            if not self.tune:
                raise InputError("nothing is tuned", where="--tune-measure", remedy="use --tune QRELS too")
            parse_measure(self.tune_measure)
        if self.tune and not (queries or self.tune_queries):
            raise InputError(
                "--tune needs the texts of the queries that it judges", remedy="use --queries or --tune-queries"
            )


def check_weight(mu: float) -> None:
    """Refuse a --mu that no score can be weighed by."""
    if not 0 <= mu < math.inf:
        raise InputError(where=f"--mu {mu:g}", expected="a number from 0 on, as concat-spar's tuning finds one")
