"""Join two folders of vectors into one with scores s1 + mu * s2 (SPAR). mu is given, or tuned on dev."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drtools import reporting
from drtools.errors import InputError, param
from drtools.evaluation.answers import judge
from drtools.evaluation.best_input import compare_with_best_input
from drtools.formats import joined_vectors
from drtools.formats.answers import read_answers
from drtools.formats.corpus_store import open_store
from drtools.formats.joined_vectors import JoinedColumns, order_of
from drtools.formats.joins import note_nothing_relevant
from drtools.formats.npy import span_of_rows
from drtools.formats.text_sources import check_judged_documents
from drtools.formats.trec import read_qrels
from drtools.formats.vectors import (
    ARRAY,
    IDS,
    JoinedManifest,
    create_array,
    find_not_finite,
    open_array,
    open_vectors,
    write_parts,
)
from drtools.methods.spar.mu import candidates, texts_to_tune_on, tune, values_alone, values_of_joined
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.outputs.fingerprints import digest, in_floats, in_int8, is_int8
from drtools.outputs.states import State
from drtools.search.query_vectors import flags_of_parts, open_queries
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import How
    from drtools.formats.vectors import Vectors
    from drtools.methods.spar.settings import JoiningPlan, MuTuning
    from drtools.outputs.work import Work

ROWS_A_BLOCK = 16384
KEPT_OUT = (
    "tool",
    "version",
    "created",
    "seconds",
    "request",
    "counts",
    "notices",
)  # keys of a part's manifest that are not recorded


@dataclass(kw_only=True)
class JoiningState(State):
    """The state of a stopped joining: the number of finished rows."""

    done: int


def join_folders(
    work: Work,
    first: str,
    second: str,
    plan: JoiningPlan,
    tuning: MuTuning | None = None,
    encoder: EncoderSpec = EncoderSpec(),
    compute: ComputeSpec = ComputeSpec(),
) -> JoinedManifest:
    """Write the joined vectors of two folders into the folder of `work`. Returns the facts for its manifest.

    mu is tuned if the plan has none. `encoder` is the encoder of the first folder's queries.
    """
    parts, joined = open_parts(first, second, plan.how)
    side, mu = parts[0].manifest["side"], plan.mu
    if side == "query" and (mu is None or not plan.copied):
        raise InputError(
            f"joining query vectors needs the {param('mu')} that was tuned on documents, and copies the vectors",
            where=first,
        )
    tried: list[dict[str, float]] = []
    if mu is None:
        assert tuning is not None, "without a mu there is data to tune it on"
        mu, tried = tune_mu(parts, joined, tuning, encoder, compute)
    dtype = plan.dtype or joined.dtype.name
    write_vectors(parts, joined, dtype, mu if side == "query" else 1.0, plan.copied, work)
    return joined_manifest(parts, joined, dtype, mu, tried)


def open_parts(first: str, second: str, how: How) -> tuple[list[Vectors], JoinedColumns]:
    """Open both folders. Returns them, and their vectors as one array."""
    parts = [open_vectors(path) for path in (first, second)]
    sides = [part.manifest["side"] for part in parts]
    if sides[0] != sides[1]:
        raise InputError(
            f"vectors of {sides[1]} texts, but {first} of {sides[0]} texts",
            where=second,
            remedy="join two folders of the same side",
        )
    order = order_of(parts[0].ids, parts[1].ids, (first, second))
    more = len(parts[1].ids) - len(parts[0].ids)
    if more:
        other = next(text_id for text_id in parts[1].ids if text_id not in parts[0].ids)
        reporting.notice(
            more,
            f"{counted(more, 'vector')} of {second} {'is' if more == 1 else 'are'} not in {first}; left "
            f"out (for instance {other!r})",
        )
    return parts, JoinedColumns(how, parts[0].array, parts[1].array, order)


def tune_mu(
    parts: Sequence[Vectors], joined: JoinedColumns, tuning: MuTuning, encoder: EncoderSpec, compute: ComputeSpec
) -> tuple[float, list[dict[str, float]]]:
    """Return the best mu on dev and all values that were tried."""
    name = tuning.answers or tuning.qrels
    assert name is not None, "there are judgements or answers"
    given = read_answers(tuning.answers) if tuning.answers else {}
    judged = read_qrels(name) if not tuning.answers else {}
    sources = [
        open_queries(part.manifest, part.path, part_spec, compute, path)
        for part, part_spec, path in zip(
            parts, flags_of_parts(encoder), tuning.query_vectors or (None, None), strict=True
        )
    ]
    texts = texts_to_tune_on(tuning.queries, sources[0], given or judged, name)
    if not tuning.answers:
        note_nothing_relevant(judged, name)
        check_judged_documents({query_id: judged[query_id] for query_id, _ in texts}, parts[0].ids, str(parts[0].path))
    first, second = (source.encode(texts) for source in sources)
    found = candidates(joined, [query_id for query_id, _ in texts], (first, second), device=sources[0].computing.device)
    for noted, words in (("truncated", "cut"), ("empty", "empty")):
        count = max(source.noted[noted] for source in sources)
        reporting.notice(count, f"{count:,} of {len(texts):,} dev queries were {words}")
    if tuning.answers:
        assert tuning.corpus is not None, "answers are looked for in texts"
        lists = {each.query_id: [parts[0].ids[row] for row in each.rows.tolist()] for each in found}
        judged = judge(lists, given, open_store(tuning.corpus), tuning.answer_match)
    mu, tried = tune(found, parts[0].ids, judged, tuning.measure)
    best = max(one["value"] for one in tried)
    reporting.say(
        f"mu {mu:g}: {tuning.measure} {best:.4f} on {len(texts):,} dev queries, the best of {len(tried)} values from "
        f"{tried[0]['mu']:g} to {tried[-1]['mu']:g}"
    )
    device, query_ids = sources[0].computing.device, [query_id for query_id, _ in texts]
    alone = {
        str(part.path): values_alone(part, query_ids, queries, judged, tuning.measure, device)
        for part, queries in zip(parts, (first, second), strict=True)
    }
    both = values_of_joined(found, parts[0].ids, judged, tuning.measure, mu)
    compare_with_best_input("the joined space", both, alone, tuning.measure)
    return mu, tried


def write_vectors(
    parts: Sequence[Vectors], joined: JoinedColumns, dtype: str, mu: float, copied: bool, work: Work
) -> None:
    """Write ids and joined rows block by block, each saved before the next; or the paths of both folders."""
    state = JoiningState.of(work)
    done = state.done if state else 0
    if not done:
        shutil.copyfile(parts[0].path / IDS, work.path / IDS)
    if not copied:
        return write_parts(work.path, joined.how, list(parts), work.target)
    if not done:
        create_array(work.path, len(joined), joined.shape[1], dtype)
    with reporting.progress("joining", len(joined), "vectors", done) as progress:
        for start in range(done, len(joined), ROWS_A_BLOCK):
            rows = slice(start, min(start + ROWS_A_BLOCK, len(joined)))
            first, second = joined.parts(rows)
            array = open_array(work.path / ARRAY, "r+")  # opened for each block, so that at most one block is in memory
            array[rows] = joined_vectors.join(joined.how, first, second, mu)
            bad = find_not_finite(array[rows])
            if bad is not None:
                raise InputError(
                    f"the joined vector of {parts[0].ids[start + bad]!r} holds NaN or a number beyond {dtype}",
                    where=parts[1].path,
                    remedy=f"use {param('dtype')} float32, or encode again",
                )
            array.flush()
            JoiningState(done=rows.stop).save(work, {ARRAY: span_of_rows(array, rows.stop)})
            del array
            progress.advance(rows.stop - start)


def part_record(vectors: Vectors) -> dict[str, Any]:
    """Return the keys of a part's manifest that joined vectors record, for encoding its queries."""
    return {name: value for name, value in vectors.manifest.items() if name not in KEPT_OUT}


def _joined_fingerprint(how: How, parts: list[str]) -> str:
    found = digest([how, *map(in_floats, parts)])
    return in_int8(found) if any(map(is_int8, parts)) else found


def joined_manifest(
    parts: Sequence[Vectors], joined: JoinedColumns, dtype: str, mu: float, tried: list[dict[str, float]]
) -> JoinedManifest:
    """Return the facts about joined vectors for the manifest: those of all vectors, and those of both parts."""
    records = [part_record(part) for part in parts]
    base = records[0]
    queries, documents = (
        _joined_fingerprint(joined.how, [record[f"{side}_fingerprint"] for record in records])
        for side in ("query", "document")
    )
    return JoinedManifest(
        side=base["side"],
        count=len(joined),
        dimension=joined.shape[1],
        dtype=dtype,
        normalized=False,
        model=" + ".join(record["model"] for record in records),
        corpus=base["corpus"],
        title_separator=base["title_separator"],
        max_tokens=base["max_tokens"],
        query_fingerprint=queries,
        document_fingerprint=documents,
        joined={"how": joined.how, "mu": mu, "parts": records},
        tried=tried,
    )
