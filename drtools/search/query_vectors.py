"""Two encoders in one search: queries are encoded by both, and joined with mu."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from drtools.cli.flags.common import EncoderFlags, Role, names_of
from drtools.errors import UserError
from drtools.formats.joined_vectors import join
from drtools.formats.joins import Join
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.tsv import QUERY_IDS, header_places
from drtools.outputs import manifest
from drtools.search.sources import QueryEncoder

if TYPE_CHECKING:
    import numpy as np

    from drtools.cli.flags.common import ComputeFlags
    from drtools.encoding.loop import Computing
    from drtools.formats.vectors import Vectors

PANEL = "Joined vectors (concat-spar)"
WEIGHT_COLUMNS = {"query": (*QUERY_IDS, "query"), "mu": ("mu", "weight")}  # in a header
KEPT_OUT = ("tool", "version", "created", "seconds", "request", "counts", "notices")  # of a part's manifest


@dataclass
class JoiningFlags:
    """How queries of vectors that concat-spar joined are weighed; what is not said is as it was joined."""

    mu: Annotated[float | None, Option(help="weight of the second encoder's scores", rich_help_panel=PANEL)] = None
    mu_by_query: Annotated[
        str | None, Option(help="TSV `query-id<TAB>mu`: a weight for each query", rich_help_panel=PANEL), Role.INPUT
    ] = None
    second_model: Annotated[
        str | None,
        Option(help="the second encoder, as --model is the first; default: as joined", rich_help_panel=PANEL),
        Role.MODEL,
    ] = None

    def __post_init__(self) -> None:
        if self.mu is not None and self.mu_by_query is not None:
            raise UserError("--mu and --mu-by-query both say how queries are weighed; leave one of the two out")
        if self.mu is not None:
            check_weight(self.mu)

    @property
    def said(self) -> list[str]:
        """The flags that were said."""
        return names_of(dataclasses.asdict(self))


def check_weight(mu: float) -> None:
    """Refuse a --mu that no score can be weighed by."""
    if not 0 <= mu < math.inf:
        raise UserError(f"--mu {mu:g}: expected a number from 0 on, as concat-spar's tuning finds one")


def read_weights(path: str) -> dict[str, float]:
    """Read {query id: mu} from lines `query-id<TAB>mu`, with or without a header of such names."""
    weights: dict[str, float] = {}
    lines = ((number, decode(line, path, number)) for number, line in read_lines(path))
    for place, (number, text) in enumerate(lines):
        columns = text.split("\t")
        if place == 0 and [*header_places(columns, WEIGHT_COLUMNS).values()] == [0, 1]:
            continue
        try:
            query_id, mu = columns[0].strip(), float(columns[1])
        except (IndexError, ValueError):
            mu = math.nan
        if not 0 <= mu < math.inf or len(columns) != 2:
            raise UserError(
                f"{shown(path)}:{number}: found {text[:80]!r}, expected a query id, a tab and a number from 0 on"
            )
        if query_id in weights:
            raise UserError(f"{shown(path)}:{number}: query {query_id!r} stands twice; keep one of the two")
        weights[query_id] = mu
    return weights


def open_queries(
    record: dict,
    what: Path,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    query_vectors: str | None = None,
    joining: JoiningFlags | None = None,
) -> QueryEncoder | JoinedQueries:
    """Return what makes vectors of queries for the vectors or index that `record` is the manifest of."""
    joining = joining or JoiningFlags()
    if "joined" in record and not query_vectors:
        return JoinedQueries(record, what, encoder_flags, compute, joining)
    if joining.said:
        reason = (
            f"the mu of {query_vectors} is in them; join the queries again with concat-spar, or say --queries"
            if "joined" in record
            else "not joined of two encoders' vectors; leave it out"
        )
        raise UserError(f"{what}: {' and '.join(joining.said)}: {reason}")
    return QueryEncoder(record, what, encoder_flags, compute, query_vectors)


class JoinedQueries:
    """Queries as vectors by both encoders of joined vectors: [q1, mu * q2], or q1 + mu * q2.

    Either may be joined itself.
    """

    def __init__(
        self, record: dict, what: Path, encoder_flags: EncoderFlags, compute: ComputeFlags, joining: JoiningFlags
    ) -> None:
        self.record, self.what = record, what
        self.noted: Counter = Counter()
        self.how, self.mu = record["joined"]["how"], record["joined"]["mu"] if joining.mu is None else joining.mu
        self.by_query = read_weights(joining.mu_by_query) if joining.mu_by_query else None
        self.parts = [
            open_queries(part, what, part_flags, compute)
            for part, part_flags in zip(
                record["joined"]["parts"], flags_of_parts(encoder_flags, joining.second_model), strict=True
            )
        ]

    @cached_property
    def computing(self) -> Computing:
        """Where to encode."""
        return self.parts[0].computing

    def encode(self, queries: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return float32 vectors [Q, D] of (query id, text) pairs."""
        import numpy as np

        first, second = (part.encode(queries) for part in self.parts)
        self.noted.update(dict.fromkeys(("truncated", "empty"), 0))
        for name in ("truncated", "empty"):  # one query that both cut counts once
            self.noted[name] = max(part.noted[name] for part in self.parts)
        return join(self.how, first, second, np.array([self._weight(query_id) for query_id, _ in queries], np.float32))

    def _weight(self, query_id: str) -> float:
        if self.by_query is None:
            return self.mu
        if query_id not in self.by_query:
            found = Join(self.by_query, "the file", [query_id])
            raise UserError(
                f"--mu-by-query: no mu of query {query_id!r} was found; give each query a line, or say one --mu "
                f"{found.pair()}"
            )
        return self.by_query[query_id]


def flags_of_parts(encoder_flags: EncoderFlags, second_model: str | None = None) -> tuple[EncoderFlags, EncoderFlags]:
    """Return what is set about both encoders: flags are the first's; whether code may run is said for both."""
    return encoder_flags, EncoderFlags(model=second_model, trust_remote_code=encoder_flags.trust_remote_code)


def part_record(vectors: Vectors) -> dict:
    """Return what joined vectors keep of a part's manifest: what encodes its queries."""
    return {name: value for name, value in vectors.manifest.items() if name not in KEPT_OUT}


def joined_record(parts: Sequence[Vectors], how: str, mu: float) -> dict:
    """Return what the manifest says of joined vectors: as any vectors' does, and what made both parts."""
    records = [part_record(part) for part in parts]
    base = records[0]
    prints = {
        side: manifest.digest([how, *(record[f"{side}_fingerprint"] for record in records)])
        for side in ("query", "document")
    }
    return {
        "side": base["side"],
        "normalized": False,
        "model": " + ".join(record["model"] for record in records),
        "corpus": base["corpus"],
        "title_separator": base["title_separator"],
        "max_tokens": base["max_tokens"],
        "joined": {"how": how, "mu": mu, "parts": records},
        **{f"{side}_fingerprint": value for side, value in prints.items()},
    }
