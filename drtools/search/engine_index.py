"""Indexes in an engine: load vectors into a collection, bring it up to date, and measure its recall.

The folder of such an index has the ids and a digest of each row, and a manifest that names the collection. A collection
is called NAME__FINGERPRINT and says of itself which content it has; this is compared before each search.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from drtools import reporting, units
from drtools.errors import InputError, WorldError, param
from drtools.formats.dropped import check_dropped
from drtools.formats.fields import NO_FIELDS, Fields, read_fields
from drtools.formats.ids import Ids
from drtools.formats.npy import create_npy
from drtools.formats.row_digests import DIGESTS, RowsByDigest, digests_of_rows, open_digests
from drtools.formats.vectors import IDS, Vectors, maker_of, open_document_vectors, open_vectors
from drtools.outputs import manifest
from drtools.outputs.fingerprints import digest
from drtools.outputs.records import as_json
from drtools.outputs.states import State
from drtools.search import checks
from drtools.search.engine_search import EngineIndex, words_of
from drtools.search.engines.engine import LOADING, UPDATING, WHOLE, Facts, IndexSettings
from drtools.search.engines.milvus import DEFAULTS, Milvus
from drtools.search.engines.places import check_name, is_file
from drtools.search.faiss_index import read_rows
from drtools.search.index_folder import OF_SOME_VECTORS, OF_VECTORS, check_queries
from drtools.search.index_manifest import read_index
from drtools.search.recall import as_queries, found_share

if TYPE_CHECKING:
    from drtools.outputs.records import Record
    from drtools.outputs.work import Work
    from drtools.search.engine_specs import EngineSpec

BATCH_BYTES, BATCH_ROWS = 16_000_000, 10_000  # of one request
DIGITS = 12
KIND = "milvus"


@dataclass(kw_only=True)
class LoadState(State):
    """The state of a stopped loading: the numbers of rows that were added and of ids that were deleted."""

    added: int
    deleted: int


class EnginePlan(NamedTuple):
    """What is loaded into which collection.

    `facts` are what it says when it is whole, `old` what it said before an update. `new` are the rows to add, `gone`
    the ids to delete.
    """

    vectors: Vectors
    fields: Fields
    digests: np.ndarray
    settings: IndexSettings
    collection: str
    facts: Facts
    new: np.ndarray
    gone: list[str]
    old: Facts | None = None


def plan_engine(spec: EngineSpec) -> EnginePlan:
    """Plan the loading of vectors; raise InputError if it is not possible."""
    check_name(spec.collection, "collection")
    opened = open_document_vectors(spec.vectors)
    checks.refuse_empty(opened.array)
    count, dimension = opened.array.shape
    if dimension > Milvus.most_dimensions:
        raise InputError(
            f"vectors of {dimension:,} dimensions",
            where=spec.vectors,
            expected=f"at most {Milvus.most_dimensions:,}, Milvus' bound",
            remedy="join them as a sum (concat-spar), or index them with FAISS",
        )
    if spec.check_queries:
        check_queries(spec.check_queries, opened)
    old = _old_index(spec, opened) if spec.update else None
    settings = _settings(spec, old)
    names = spec.fields or ([*old["fields"]] if old else [])
    fields = NO_FIELDS
    if names:
        if spec.corpus is None:
            raise InputError(
                "the corpus of these vectors is not available or has changed",
                where=param("fields"),
                remedy=f"pass it as {param('corpus')}",
            )
        fields = read_fields(spec.corpus, names, opened.ids)
    of_fields = [manifest.fingerprint(spec.corpus), *fields.kinds] if spec.corpus and names else []
    fingerprint = digest([manifest.fingerprint(spec.vectors), of_fields, settings.kind, dict(settings.parameters)])
    digests = _digests(opened, fields)
    facts = Facts(fingerprint, count, WHOLE)
    if old is None:
        collection = f"{spec.collection}__{fingerprint[:DIGITS]}"
        reporting.say(
            f"{spec.uri}: collection {collection}, {units.counted(count, 'vector')} of {dimension} dimensions"
        )
        return EnginePlan(opened, fields, digests, settings, collection, facts, np.arange(count), [])
    new, gone = _changes(spec, opened, digests, old)
    then = Facts(old["content"], old["count"], WHOLE)
    return EnginePlan(opened, fields, digests, settings, old["collection"], facts, new, gone, then)


def _settings(spec: EngineSpec, old: Record | None) -> IndexSettings:
    if old is not None:
        if spec.index_type not in (None, old["index_type"]) or spec.parameters:
            raise InputError(
                f"an update keeps the index of {spec.update}, which is {old['index_type']}",
                where=param("index_type"),
                remedy=f"leave it out, or build a new index without {param('update')}",
            )
        return IndexSettings(old["index_type"], old["parameters"])
    kind = spec.index_type or "HNSW"
    return IndexSettings(kind, {**DEFAULTS.get(kind, {}), **spec.parameters})


def _old_index(spec: EngineSpec, vectors: Vectors) -> Record:
    """Return the manifest of the index to be updated; raise InputError if it is another one."""
    assert spec.update is not None, "an update"
    record = read_index(spec.update)
    place = place_of(spec.uri)
    if record["kind"] != KIND or (record["uri"], record["collection"].rpartition("__")[0]) != (place, spec.collection):
        found = (
            f"the collection {record['collection']} of {record['uri']}" if record["kind"] == KIND else record["kind"]
        )
        raise InputError(
            f"an index in {found}",
            where=spec.update,
            expected=f"one in a collection {spec.collection} of {place}",
            remedy=f"name the same engine and collection, or leave {param('update')} out",
        )
    theirs = vectors.manifest
    if (record["dimension"], record["document_fingerprint"]) != (theirs["dimension"], theirs["document_fingerprint"]):
        raise InputError(
            f"made from vectors of another encoder ({maker_of(record)}) than {vectors.path} ({maker_of(theirs)})",
            where=spec.update,
            remedy=f"build the index again, without {param('update')}",
        )
    if spec.fields and sorted(spec.fields) != sorted(record["fields"]):
        raise InputError(
            f"its fields are {', '.join(record['fields']) or 'none'}",
            where=spec.update,
            remedy=f"leave {param('fields')} out, or build a new index without {param('update')}",
        )
    Ids(Path(spec.update) / IDS).check_count(record["count"])
    return record


def _changes(spec: EngineSpec, vectors: Vectors, digests: np.ndarray, old: Record) -> tuple[np.ndarray, list[str]]:
    """Return the rows to add, and the ids to delete; those of changed documents are only added."""
    assert spec.update is not None, "an update"
    folder, ids = Path(spec.update), Ids(Path(spec.update) / IDS)
    known = RowsByDigest(open_digests(folder, old["count"])).find(digests)
    stays = np.zeros(old["count"], bool)
    stays[known[known >= 0]] = True
    left = ids.at(np.flatnonzero(~stays))
    new, gone = np.flatnonzero(known < 0), vectors.ids.missing(left)
    reporting.say(
        f"{spec.update}: {len(left):,} of {old['count']:,} rows are gone or changed, {len(new):,} of "
        f"{units.counted(len(digests), 'vector is', 'vectors are')} new"
    )
    check_dropped(spec.update, old["count"], iter(gone), vectors.ids, str(vectors.path), spec.allow_dropped)
    return new, gone


def _digests(vectors: Vectors, fields: Fields) -> np.ndarray:
    """Return a digest of each row's id, vector and fields, uint8 [N, 16]."""
    found = np.empty((len(vectors.array), 16), np.uint8)
    for start in range(0, len(found), BATCH_ROWS):
        stop = min(start + BATCH_ROWS, len(found))
        rows = digests_of_rows(vectors.ids.at(range(start, stop)), vectors.array[start:stop])
        if fields.kinds:
            values = zip(*fields.rows(range(start, stop)).values(), strict=True)
            rows = np.stack([_with_fields(row, each) for row, each in zip(rows, values, strict=True)])
        found[start:stop] = rows
    return found


def _with_fields(row: np.ndarray, values: Sequence[object]) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(row.tobytes() + as_json(list(values)), digest_size=16).digest(), np.uint8)


def place_of(uri: str) -> str:
    """Return a URI as a manifest names it: a file by its whole path, so that it is found from any folder."""
    return str(Path(uri).resolve()) if is_file(uri) else uri


def build_engine(work: Work, spec: EngineSpec, plan: EnginePlan) -> dict[str, Any]:
    """Load vectors into their collection and build its index; return the facts for the manifest."""
    engine, opened = Milvus(place_of(spec.uri)), plan.vectors
    try:
        is_there = _begin(engine, spec, plan)
        if not is_there:
            _load(work, engine, plan)
        with reporting.progress("indexing", len(opened.array), "vectors") as progress:
            engine.build(plan.collection, plan.settings, lambda done: progress.advance(done - progress.done))
        _check_count(engine, plan)
        if engine.facts(plan.collection) != plan.facts:
            engine.note(plan.collection, plan.facts)
        recall = _recall(engine, spec, plan) if spec.check or spec.check_queries else None
        version = engine.version()
    finally:
        engine.close()
    digests = create_npy(work.path / DIGESTS, np.uint8, plan.digests.shape)
    digests[:] = plan.digests
    digests.flush()
    shutil.copyfile(opened.path / IDS, work.path / IDS)
    joined = opened.manifest.get("joined")
    return {
        "count": len(opened.array),
        "uri": place_of(spec.uri),
        "collection": plan.collection,
        "content": plan.facts.fingerprint,
        "server": version,
        "index_type": plan.settings.kind,
        "parameters": dict(plan.settings.parameters),
        "fields": [*plan.fields.kinds],
        "recall": recall,
        **({"mu": joined["mu"]} if joined else {}),
        "vectors": spec.vectors,
        **{name: opened.manifest[name] for name in OF_VECTORS},
        **{name: opened.manifest[name] for name in OF_SOME_VECTORS if name in opened.manifest},
        "identity": [KIND, place_of(spec.uri), plan.collection, plan.facts.fingerprint],
    }


def _begin(engine: Milvus, spec: EngineSpec, plan: EnginePlan) -> bool:
    """Create the collection, or check that it may be changed; return whether it has the content already."""
    found = engine.facts(plan.collection)
    if found == plan.facts:
        engine.load(plan.collection)
        if engine.count(plan.collection) == plan.facts.count:
            reporting.say(f"{spec.uri}: {plan.collection} is loaded already")
            return True
    if plan.old is None:
        loading = Facts(plan.facts.fingerprint, plan.facts.count, LOADING)
        if found is None:
            engine.create(plan.collection, plan.vectors.array.shape[1], plan.fields.kinds, loading)
        elif found not in (loading, plan.facts):
            raise InputError(
                f"the collection {plan.collection} was changed since ({found.state})",
                where=spec.uri,
                remedy=f"choose another {param('collection')}, or remove it in Milvus",
            )
        return False
    updating = Facts(plan.facts.fingerprint, plan.facts.count, UPDATING + plan.facts.fingerprint[:DIGITS])
    if found not in (plan.old, updating, plan.facts):
        raise InputError(
            f"the collection {plan.collection} is not what {spec.update} names ({words_of(found)})",
            where=spec.uri,
            remedy="update the index that was made last, finish the update that was begun, or build the index anew",
        )
    engine.note(plan.collection, updating)
    return False


def _load(work: Work, engine: Milvus, plan: EnginePlan) -> None:
    """Add the new rows and delete what is gone, and note each request that is done."""
    state = LoadState.of(work) or LoadState(added=0, deleted=0)
    with reporting.progress("loading", len(plan.new), "vectors", state.added) as progress:
        for rows in _batches(plan, state.added):
            _upsert(engine, plan, rows)
            state.added += len(rows)
            state.save(work)
            progress.advance(len(rows))
    for start in range(state.deleted, len(plan.gone), BATCH_ROWS):
        ids = plan.gone[start : start + BATCH_ROWS]
        engine.delete(plan.collection, ids)
        state.deleted += len(ids)
        state.save(work)


def _upsert(engine: Milvus, plan: EnginePlan, rows: np.ndarray) -> None:
    vectors = read_rows(plan.vectors.array, rows)
    engine.upsert(plan.collection, plan.vectors.ids.at(rows), vectors, plan.fields.rows(rows.tolist()))


def _batches(plan: EnginePlan, start: int) -> Iterator[np.ndarray]:
    """Yield the rows of each request, of at most 16 MB, after the first `start` of the new rows."""
    each = 4 * plan.vectors.array.shape[1]
    while start < len(plan.new):
        rows = plan.new[start : start + min(BATCH_ROWS, max(1, BATCH_BYTES // each))]
        texts: list[Sequence[object]] = [plan.vectors.ids.at(rows), *plan.fields.rows(rows.tolist()).values()]
        sizes = np.full(len(rows), each)
        for column in texts:
            sizes += np.array([len(str(value).encode()) + 16 for value in column])
        fit = max(1, int((np.cumsum(sizes) <= BATCH_BYTES).sum()))
        yield rows[:fit]
        start += fit


def _check_count(engine: Milvus, plan: EnginePlan) -> None:
    """Compare the number of documents; add all of them once more if a server lost some that it had accepted."""
    found = engine.count(plan.collection)
    if found < plan.facts.count:
        reporting.notice(1, f"{plan.collection} has {found:,} of {plan.facts.count:,} documents; all are added again")
        whole = plan._replace(new=np.arange(plan.facts.count))
        for rows in _batches(whole, 0):
            _upsert(engine, whole, rows)
        engine.build(plan.collection, plan.settings, lambda done: None)
        found = engine.count(plan.collection)
    if found != plan.facts.count:
        raise WorldError(
            f"{engine.uri}: {plan.collection} has {found:,} documents where {plan.facts.count:,} were loaded; another "
            "program may be changing it; the same command again continues"
        )


def _recall(engine: Milvus, spec: EngineSpec, plan: EnginePlan) -> dict[str, Any]:
    """Measure the recall against exact search, at the mu with which joined vectors are served."""
    opened, count = plan.vectors, len(plan.vectors.array)
    if spec.check_queries:
        array = np.array(open_vectors(spec.check_queries).array, np.float32)
    else:
        rows = np.random.default_rng(spec.seed).choice(count, min(1000, count), replace=False)
        array = as_queries(np.array(opened.array[np.sort(rows)], np.float32), opened.manifest)
    depth = min(spec.check_depth, count, engine.most_hits)
    index = EngineIndex(engine, plan.collection, plan.settings, opened.ids)
    _, rows = index.search(array, depth)
    value = found_share(rows, opened.array, array, depth)
    joined = opened.manifest.get("joined")
    at = f" at mu {joined['mu']:g}" if joined else ""
    reporting.say(
        f"recall of the exact top {depth}{at}: {value:.4f} ({len(array):,} "
        f"{'queries' if spec.check_queries else 'documents as queries'})"
    )
    return {"depth": depth, "queries": len(array), "value": value}
