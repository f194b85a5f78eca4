"""Milvus, a server, a cluster or the file of Milvus Lite, as an engine.

Only this file knows pymilvus. Its log has tracebacks and is silenced; each error becomes one line.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from drtools.errors import InputError, WorldError, param
from drtools.search.engines.engine import Effort, Facts, FieldValue, IndexSettings
from drtools.search.engines.places import TOKEN, check_uri, is_file, longest_wait

if TYPE_CHECKING:
    from pymilvus import MilvusClient

WAIT_FOR_INDEX = 30  # [ours] of these until an index that does not grow is given up
LONGEST_TEXT = 65_535  # bytes of a string, Milvus' bound
IDS_A_FILTER = 1000
LEAST_CANDIDATES, CANDIDATES_A_HIT, MOST_CANDIDATES = 64, 2, 32_768
LEAST_LISTS, SHARE_OF_LISTS, LISTS = 32, 1 / 16, 128
HITS_AN_ANSWER = 500_000  # [ours] of all queries of a request; servers limit the bytes of an answer
PROPERTIES = ("drtools.fingerprint", "drtools.count", "drtools.state")
DEFAULTS: dict[str, dict[str, int | float | str]] = {
    "HNSW": {"M": 16, "efConstruction": 200},
    "IVF_FLAT": {"nlist": LISTS},
    "IVF_SQ8": {"nlist": LISTS},
}
OFF = ("Fail connecting", "unavailable", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Deadline Exceeded", "Retry", "not ready")
CLOSED = ("auth check failure", "unauthenticated", "UNAUTHENTICATED", "permission deny", "privilege")


class Milvus:
    """A connection to Milvus. The token comes from the environment, so that no command line or file has it."""

    most_hits, most_dimensions = 16_384, 32_768

    def __init__(self, uri: str) -> None:
        check_uri(uri)
        self.uri, self.seconds = uri, longest_wait()
        self.is_lite = is_file(uri)
        with self.speaking():
            self.client = self._connect()

    def _connect(self) -> MilvusClient:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        try:
            from pymilvus import MilvusClient
        except ImportError:
            raise InputError(
                "needs the library pymilvus",
                where=f"{param('milvus')} {self.uri}",
                remedy="install it with `pip install 'drtools[milvus]'`",
            ) from None
        for name in ("pymilvus", "milvus_lite"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        if self.is_lite:
            try:
                import milvus_lite  # noqa: F401
            except ImportError:
                raise InputError(
                    "a file is read by Milvus Lite",
                    where=f"{param('milvus')} {self.uri}",
                    remedy="install it with `pip install milvus-lite`, or name a server, http://HOST:19530",
                ) from None
        return MilvusClient(uri=self.uri, token=os.environ.get(TOKEN, ""), timeout=self.seconds)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Turn every error of the library and of its connection into one line."""
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            code = getattr(error, "code", lambda: None)()
            raise self._failure(f"{getattr(code, 'name', code)} {getattr(error, 'details', lambda: '')()}") from None
        except Exception as error:
            if type(error).__module__.startswith(("pymilvus", "milvus_lite")):
                raise self._failure(str(getattr(error, "message", "") or error)) from None
            raise

    def _failure(self, words: str) -> InputError | WorldError:
        words = " ".join(words.split())
        words = words[-300:] if "stack trace" in words else words[:300]  # what went wrong comes after the trace
        token = os.environ.get(TOKEN)
        if token:
            words = words.replace(token, "...")
        if any(each in words for each in CLOSED):
            return InputError(
                "Milvus refused the token", where=self.uri, remedy=f"put USER:PASSWORD or a key into {TOKEN}"
            )
        if self.is_lite and ("lock" in words.lower() or "Open local milvus failed" in words):
            return WorldError(f"{self.uri}: Milvus Lite could not open it; another process may have it open ({words})")
        if any(each in words for each in OFF):
            return WorldError(
                f"{self.uri}: Milvus did not answer in time or is down ({words}); nothing finished was changed; once "
                "it runs, the same command again continues"
            )
        return WorldError(f"{self.uri}: Milvus failed: {words}; the same command again continues")

    def version(self) -> str:
        """Return the server's version."""
        with self.speaking():
            return str(self.client.get_server_version(timeout=self.seconds))

    def facts(self, collection: str) -> Facts | None:
        """Return what the properties of a collection say; None if there is no such collection."""
        with self.speaking():
            if not self.client.has_collection(collection, timeout=self.seconds):
                return None
            found = self.client.describe_collection(collection, timeout=self.seconds).get("properties") or {}
        fingerprint, count, state = (str(found.get(name, "")) for name in PROPERTIES)
        return Facts(fingerprint, int(count) if count.isdigit() else -1, state)

    def create(self, collection: str, dimension: int, fields: Mapping[str, type], facts: Facts) -> None:
        """Create an empty collection. Nothing happens if it exists."""
        from pymilvus import DataType

        kinds = {str: DataType.VARCHAR, int: DataType.INT64, float: DataType.DOUBLE, bool: DataType.BOOL}
        with self.speaking():
            if self.client.has_collection(collection, timeout=self.seconds):
                return
            schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=LONGEST_TEXT)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
            for name, kind in fields.items():
                schema.add_field(name, kinds[kind], **({"max_length": LONGEST_TEXT} if kind is str else {}))
            self.client.create_collection(
                collection,
                schema=schema,
                properties=_properties(facts),
                consistency_level="Strong",
                timeout=self.seconds,
            )

    def note(self, collection: str, facts: Facts) -> None:
        """Replace what the properties of a collection say."""
        with self.speaking():
            self.client.alter_collection_properties(collection, properties=_properties(facts), timeout=self.seconds)

    def upsert(
        self, collection: str, ids: Sequence[str], vectors: np.ndarray, fields: Mapping[str, Sequence[FieldValue]]
    ) -> None:
        """Add documents, or replace those with the same ids."""
        columns = zip(*fields.values(), strict=True) if fields else [()] * len(ids)
        rows: list[dict[str, Any]] = [
            {"id": text_id, "vector": vector, **dict(zip(fields, values, strict=True))}
            for text_id, vector, values in zip(ids, vectors, columns, strict=True)
        ]
        with self.speaking():
            self.client.upsert(collection, rows, timeout=self.seconds)

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete documents by their ids."""
        for start in range(0, len(ids), IDS_A_FILTER):
            with self.speaking():
                wanted = _with_ids(ids[start : start + IDS_A_FILTER])
                self.client.delete(collection, filter=wanted, timeout=self.seconds)

    def build(self, collection: str, settings: IndexSettings, on_progress: Callable[[int], None]) -> None:
        """Flush, build the index, and load the collection. Returns when all rows are indexed and can be searched."""
        with self.speaking():
            self.client.flush(collection, timeout=self.seconds)
            if not self.client.list_indexes(collection, timeout=self.seconds):
                wanted = self.client.prepare_index_params()
                wanted.add_index(
                    "vector",
                    index_name="vector",
                    index_type=settings.kind,
                    metric_type="IP",
                    params=dict(settings.parameters),
                )
                self.client.create_index(collection, wanted, sync=False, timeout=self.seconds)
            self._wait_for_index(collection, settings, on_progress)
        self.load(collection)

    def load(self, collection: str) -> None:
        """Load a collection into memory. Milvus Lite forgets that it was, when its process ends."""
        with self.speaking():
            self.client.load_collection(collection, timeout=WAIT_FOR_INDEX * self.seconds)

    def _wait_for_index(self, collection: str, settings: IndexSettings, on_progress: Callable[[int], None]) -> None:
        least, since, pause = -1, time.monotonic(), 0.05
        while True:
            found = self.client.describe_index(collection, "vector", timeout=self.seconds)
            if found["state"] == "Failed":
                raise WorldError(
                    f"{self.uri}: Milvus could not build a {settings.kind} index of {collection}: "
                    f"{found.get('index_state_fail_reason') or found.get('state_fail_reason') or 'no reason given'}"
                )
            indexed, pending = int(found["indexed_rows"]), int(found["pending_index_rows"])
            if found["state"] == "Finished" and not pending:
                return
            on_progress(indexed)
            if indexed > least:
                least, since = indexed, time.monotonic()
            elif time.monotonic() - since > WAIT_FOR_INDEX * self.seconds:
                raise WorldError(
                    f"{self.uri}: the {settings.kind} index of {collection} has not grown for "
                    f"{WAIT_FOR_INDEX * self.seconds:.0f} s, at {indexed:,} rows; this server may not have this kind"
                )
            time.sleep(pause)
            pause = min(2.0, 1.5 * pause)

    def count(self, collection: str) -> int:
        """Return the number of documents, with everything that was written before."""
        with self.speaking():
            found = self.client.query(
                collection, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=self.seconds
            )
        return int(found[0]["count(*)"])

    def search(
        self, collection: str, settings: IndexSettings, queries: np.ndarray, depth: int, where: str, effort: Effort
    ) -> list[list[tuple[str, float]]]:
        """Return the (id, inner product) of the nearest documents of each query, best first."""
        found: list[list[tuple[str, float]]] = []
        parameters = {"metric_type": "IP", "params": efforts(settings, depth, effort)}
        many = max(1, HITS_AN_ANSWER // depth)
        for start in range(0, len(queries), many):
            with self.speaking():
                lists = self.client.search(
                    collection,
                    data=queries[start : start + many],
                    anns_field="vector",
                    limit=depth,
                    filter=where,
                    search_params=parameters,
                    consistency_level="Strong",
                    timeout=self.seconds,
                )
            found += [[(hit["id"], float(hit["distance"])) for hit in hits] for hits in lists]
        return found

    def check_filter(self, collection: str, where: str) -> None:
        """Raise InputError for a filter that the server cannot parse."""
        with self.speaking():
            try:
                self.client.query(collection, filter=where, output_fields=["id"], limit=1, timeout=self.seconds)
            except Exception as error:
                words = " ".join(str(getattr(error, "message", "") or error).split())
                if not type(error).__module__.startswith("pymilvus") or any(each in words for each in (*OFF, *CLOSED)):
                    raise
                fields = self.client.describe_collection(collection, timeout=self.seconds)["fields"]
                names = ", ".join(each["name"] for each in fields if each["name"] not in ("id", "vector")) or "none"
                raise InputError(
                    f"Milvus cannot use it: {words[:200]}",
                    where=f"{param('filter')} {where}",
                    expected=f"an expression over id or the fields of the collection ({names})",
                ) from None

    def vectors_of(self, collection: str, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the vectors of documents by id. Ids that are not there are left out."""
        found: dict[str, np.ndarray] = {}
        for start in range(0, len(ids), IDS_A_FILTER):
            with self.speaking():
                rows = self.client.query(
                    collection,
                    filter=_with_ids(ids[start : start + IDS_A_FILTER]),
                    output_fields=["id", "vector"],
                    consistency_level="Strong",
                    timeout=self.seconds,
                )
            found |= {row["id"]: np.asarray(row["vector"], np.float32) for row in rows}
        return found

    def named(self, alias: str) -> str | None:
        """Return the collection that an alias names; None if there is no such alias."""
        with self.speaking():
            try:
                return str(self.client.describe_alias(alias, timeout=self.seconds)["collection_name"])
            except Exception as error:
                if getattr(error, "code", None) in (100, 1600):
                    return None
                raise

    def name(self, alias: str, collection: str) -> None:
        """Make an alias name a collection, in one step for all readers."""
        before = self.named(alias)
        if before == collection:
            return
        with self.speaking():
            if self.client.has_collection(alias, timeout=self.seconds) and before is None:
                raise InputError(
                    "a collection has this name",
                    where=f"{param('alias')} {alias}",
                    remedy="choose another name for the alias",
                )
            change = self.client.create_alias if before is None else self.client.alter_alias
            change(collection, alias, timeout=self.seconds)

    def drop(self, collection: str) -> None:
        """Remove a collection. Nothing happens if there is none, or if an alias names it."""
        with self.speaking():
            if not self.client.has_collection(collection, timeout=self.seconds):
                return
            if self.client.list_aliases(collection, timeout=self.seconds).get("aliases"):
                return
            self.client.drop_collection(collection, timeout=self.seconds)

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):
            self.client.close()


def _properties(facts: Facts) -> dict[str, str]:
    return dict(zip(PROPERTIES, (facts.fingerprint, str(facts.count), facts.state), strict=True))


def _with_ids(ids: Sequence[str]) -> str:
    """Return a filter for ids. JSON quotes them; what pymilvus makes of a list of ids is not escaped."""
    return f"id in {json.dumps(list(ids), ensure_ascii=False)}"


def efforts(settings: IndexSettings, depth: int, effort: Effort) -> dict[str, int]:
    """Return the parameters of a search; Milvus wants at least as many candidates as hits."""
    if settings.kind.startswith("HNSW"):
        wanted = effort.ef_search or max(LEAST_CANDIDATES, CANDIDATES_A_HIT * depth)
        return {"ef": min(MOST_CANDIDATES, max(wanted, depth + 1))}
    if settings.kind.startswith("IVF"):
        lists = int(settings.parameters.get("nlist", LISTS))
        return {"nprobe": min(lists, effort.nprobe or max(LEAST_LISTS, int(lists * SHARE_OF_LISTS)))}
    if settings.kind == "DISKANN":
        return {"search_list": effort.ef_search or max(LEAST_CANDIDATES, CANDIDATES_A_HIT * depth)}
    return {}
