"""Query vectors for a search, by one encoder, or by two whose vectors are joined with mu."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drtools.errors import InputError, param
from drtools.formats.joined_vectors import join
from drtools.formats.joins import Join
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.tsv import QUERY_IDS, header_places
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.outputs import manifest
from drtools.outputs.fingerprints import in_floats, is_int8
from drtools.outputs.versions import release_of
from drtools.search.specs import JoiningSpec

if TYPE_CHECKING:
    import numpy as np

    from drtools.formats.vectors import Vectors
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.models.lexical import LexicalEncoder

WEIGHT_COLUMNS = {"query": (*QUERY_IDS, "query"), "mu": ("mu", "weight")}  # in a header


def read_weights(path: str) -> dict[str, float]:
    """Read {query id: mu} from lines `query-id<TAB>mu`, with or without a header."""
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
            raise InputError(
                f"found {text[:80]!r}",
                where=f"{shown(path)}:{number}",
                expected="a query id, a tab and a number, 0 or more",
            )
        if query_id in weights:
            raise InputError(
                f"query {query_id!r} occurs twice", where=f"{shown(path)}:{number}", remedy="keep one of the two"
            )
        weights[query_id] = mu
    return weights


def open_queries(
    record: dict[str, Any],
    what: Path,
    encoder_flags: EncoderSpec,
    compute: ComputeSpec,
    query_vectors: str | None = None,
    joining: JoiningSpec | None = None,
) -> QueryEncoder | JoinedQueries:
    """Return the encoder of queries for the vectors or index whose manifest is `record`."""
    joining = joining or JoiningSpec()
    if "joined" in record and not query_vectors:
        return JoinedQueries(record, what, encoder_flags, compute, joining)
    if joining.given:
        reason = (
            f"the mu of {query_vectors} is in them; join the queries again with concat-spar, or use {param('queries')}"
            if "joined" in record
            else "not joined from the vectors of two encoders; leave it out"
        )
        given = " and ".join(map(param, joining.given))
        raise InputError(f"{given}: {reason}", where=what)
    return QueryEncoder(record, what, encoder_flags, compute, query_vectors)


class JoinedQueries:
    """Vectors of queries by both encoders of joined vectors: [q1, mu * q2], or q1 + mu * q2.

    Each encoder's vectors may be joined themselves.
    """

    def __init__(
        self, record: dict[str, Any], what: Path, encoder_flags: EncoderSpec, compute: ComputeSpec, joining: JoiningSpec
    ) -> None:
        self.record, self.what = record, what
        self.noted: Counter[str] = Counter()
        self.how, self.mu = record["joined"]["how"], record["joined"]["mu"] if joining.mu is None else joining.mu
        self.by_query = read_weights(joining.mu_by_query) if joining.mu_by_query else None
        self.parts = [
            open_queries(part, what, part_flags, compute)
            for part, part_flags in zip(
                record["joined"]["parts"], flags_of_parts(encoder_flags, joining.second_model), strict=True
            )
        ]

    @cached_property
    def computing(self) -> Compute:
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
            raise InputError(
                f"no mu was found for query {query_id!r}",
                where=param("mu_by_query"),
                remedy=f"add a line for each query, or use one {param('mu')} {found.pair()}",
            )
        return self.by_query[query_id]


def flags_of_parts(encoder_flags: EncoderSpec, second_model: str | None = None) -> tuple[EncoderSpec, EncoderSpec]:
    """Return the settings of both encoders: they are the first's, but `trust_remote_code` is for both."""
    return encoder_flags, EncoderSpec(model=second_model, trust_remote_code=encoder_flags.trust_remote_code)


def refuse_another_encoder(
    record: dict[str, Any],
    what: Path,
    prints: Mapping[str, str],
    dimension: int,
    name: str,
    for_dimension: str,
    for_encoder: str,
) -> None:
    """Raise InputError for queries of an encoder that does not fit the vectors whose manifest is `record`.

    `prints` has the fingerprints of the encoder's sides, under the names that manifests use. The last two parameters
    are the remedies if the dimension, or only the encoder, differs.
    """
    from drtools.formats.vectors import belong_together, maker_of

    if dimension != record["dimension"]:
        raise InputError(
            (
                f"its vectors have {record['dimension']} dimensions, those of {name} {dimension}; {for_dimension} "
                f"({maker_of(record)})"
            ),
            where=what,
        )
    if not belong_together(prints, record):
        raise InputError(f"made by another encoder ({maker_of(record)}) than {name}", where=what, remedy=for_encoder)


def _of_the_same_version(spec: EncoderSpec, record: dict[str, Any], what: Path) -> EncoderSpec:
    """Return the encoder that is published in one version with vectors or an index, else the one that they name.

    What their manifest names is a path that may hold another encoder by now, or lead nowhere from here.
    """
    place, _ = release_of(what) or (None, {})
    for folder in sorted(place.iterdir()) if place else []:
        if (folder / manifest.NAME).is_file():
            theirs = manifest.read_manifest(folder / manifest.NAME)
            if theirs.get("kind") == "encoder" and theirs.get("query_fingerprint") == in_floats(
                record["query_fingerprint"]
            ):
                return replace(spec, model=str(folder), body=None, rem=None)
    return spec


class QueryEncoder:
    """Vectors of queries, by an encoder or from a vectors folder of queries."""

    def __init__(
        self,
        record: dict[str, Any],
        what: Path,
        encoder_flags: EncoderSpec,
        compute: ComputeSpec,
        query_vectors: str | None = None,
    ) -> None:
        self.record, self.what, self.encoder_flags, self.compute = record, what, encoder_flags, compute
        self.noted: Counter[str] = Counter()
        self.vectors: Vectors | None = None
        if query_vectors:
            from drtools.formats.vectors import open_vectors

            self.vectors = open_vectors(query_vectors)
            theirs = self.vectors.manifest
            if theirs["side"] != "query":
                raise InputError(
                    "vectors of documents",
                    where=query_vectors,
                    expected=f"vectors of queries (encode {param('queries')})",
                )
            self._check(theirs, theirs["dimension"], query_vectors)

    def _check(self, prints: Mapping[str, str], dimension: int, name: str) -> None:
        from drtools.formats.vectors import note_other_precision

        refuse_another_encoder(
            self.record,
            self.what,
            prints,
            dimension,
            name,
            "use the encoder that made them",
            "encode the documents again, or search with the encoder that made them; if the two were trained together, "
            f"pass the other one as {param('document_model')}",
        )
        note_other_precision(prints, self.record, self.what)

    @cached_property
    def encoder(self) -> Encoder | LexicalEncoder:
        """The encoder of queries: the one that is given, or else the one in the manifest.

        It must be the one that made the vectors.
        """
        from drtools.formats.vectors import named_fingerprints
        from drtools.models.encoder import Encoder
        from drtools.models.loader import known_fingerprints, load_for_encoding
        from drtools.models.truncation import truncate

        spec = self.encoder_flags.or_from(self.record)
        if not (self.encoder_flags.model or self.encoder_flags.body or self.encoder_flags.rem):
            spec = _of_the_same_version(spec, self.record, self.what)
        encoder = load_for_encoding(spec, self.computing, "query")
        cut = self.record.get("truncate_dimension")
        if cut and isinstance(encoder, Encoder) and encoder.dimension > cut:  # as the documents' vectors were
            truncate(encoder, cut)
        self._check(named_fingerprints(known_fingerprints(encoder, spec)), encoder.dimension, spec.names)
        return encoder

    @cached_property
    def computing(self) -> Compute:
        """Where to encode. By default, a processor computes in int8 if the documents' vectors were."""
        from drtools.models.compute import settle

        computing = settle(self.compute)
        by_default = self.compute.precision == "auto" and computing.device == "cpu"
        if by_default and is_int8(self.record["document_fingerprint"]):
            return settle(replace(self.compute, precision="int8"))
        return computing

    def encode(self, queries: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return float32 vectors [Q, D] of (query id, text) pairs."""
        import numpy as np

        if self.vectors is None:
            from drtools.encoding.loop import encode_texts

            vectors, tokens = encode_texts(self.encoder, [text for _, text in queries], "query", self.computing)
            self.noted.update(truncated=tokens.truncated, empty=tokens.empty)
            return vectors
        rows = [self.vectors.ids.row_of(query_id) for query_id, _ in queries]
        if None in rows:
            found = Join(self.vectors.ids, str(self.vectors.path), [query_id for query_id, _ in queries])
            raise InputError(
                f"there is no vector of query {found.first[0]!r}",
                where=self.vectors.path,
                remedy=f"encode these queries again {found.pair()}",
            )
        return np.asarray(self.vectors.array[np.array(rows, np.int64)], np.float32)
