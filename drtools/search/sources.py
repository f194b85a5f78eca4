"""Sources of hits with one interface: a Lucene index, a FAISS index, vectors without an index.

A source yields the ranked hits query by query, in order, and the scores of documents that were requested by id
(positives, for instance), whether or not they are among the hits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from drtools.errors import InputError, param
from drtools.formats.identical import without_own
from drtools.formats.ids import Ids
from drtools.formats.joins import KnownIds
from drtools.formats.trec import rank
from drtools.formats.vectors import open_document_vectors
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.search.index_manifest import read_index
from drtools.search.lucene import LuceneIndex, Rm3, separate_ties
from drtools.search.query_vectors import JoinedQueries, QueryEncoder, open_queries

if TYPE_CHECKING:
    import faiss
    import numpy as np

    from drtools.formats.joined_vectors import JoinedArray
    from drtools.outputs.records import Record
    from drtools.search.engine_search import EngineIndex
    from drtools.search.faiss_gpu import OnGpus
    from drtools.search.specs import JoiningSpec

QUERIES_A_BLOCK = 2048


class Found(NamedTuple):
    """One query's ranked hits, and the scores of the requested documents (None if the source has no score)."""

    query_id: str
    hits: dict[str, float]
    asked: dict[str, float | None]


class HitSource(Protocol):
    """A source of hits.

    `record` is its manifest, `noted` counts queries that were cut (truncated) or empty, `whose` is its name in
    messages.
    """

    record: dict[str, Any]
    noted: Counter[str]
    whose: str

    @property
    def documents(self) -> KnownIds:
        """The ids of the documents that it can return."""

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Yield the hits of each (query id, text), and the scores of the documents requested for each query id."""


class LuceneSource:
    """BM25, or RM3 on top of it, over a Lucene index."""

    def __init__(self, folder: str, k1: float = 0.9, b: float = 0.4, rm3: Rm3 | None = None, threads: int = 2) -> None:
        self.record: dict[str, Any] = read_index(folder)
        self.noted: Counter[str] = Counter()
        self.index = LuceneIndex(Path(folder) / "lucene", k1, b, rm3, self.record["language"])
        self.threads = threads
        self.documents: KnownIds = self.index
        self.whose = folder

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Search with Lucene's threads, in the order of the queries."""
        texts = dict(queries)
        for query_id, exact_hits in self.index.search_batches(queries, depth, self.threads):
            hits = separate_ties(exact_hits)  # so that a run, which is ranked by score, keeps Lucene's order
            wanted = [document for document in asked.get(query_id, ()) if document not in hits]
            more = self.index.score_documents(texts[query_id], wanted) if wanted else {}
            yield Found(
                query_id,
                hits,
                {document: hits.get(document, more.get(document)) for document in asked.get(query_id, ())},
            )


class IgnoringIdentical:
    """Another source without the document that has the query's id: it searches for one more hit and cuts the list."""

    def __init__(self, source: LuceneSource | DenseSource) -> None:
        self.source, self.record, self.noted, self.whose = source, source.record, source.noted, source.whose
        self.documents = source.documents

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Search, count the lists that hold such a document, and leave it out."""
        for found in self.source.search(queries, depth + 1, asked):
            self.noted["identical"] += found.query_id in found.hits
            hits = without_own(found.query_id, found.hits)
            yield found._replace(hits=dict(islice(hits.items(), depth)))


class DenseSource:
    """Search by inner products, exactly or with a FAISS index.

    With an index and `rescore`, that many of its hits (at least those that are wanted; 0: all documents) get their
    scores from the vectors themselves, `array`. `on_gpus` is a copy of the index, which is searched instead.
    `engine` is an index in an engine.
    """

    def __init__(
        self,
        queries: QueryEncoder | JoinedQueries,
        ids: Ids,
        array: np.ndarray | JoinedArray | None = None,
        index: faiss.Index | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
        rescore: int | None = None,
        on_gpus: OnGpus | None = None,
        engine: EngineIndex | None = None,
    ) -> None:
        self.record, self.noted, self.queries, self.ids = queries.record, queries.noted, queries, ids
        self.documents: KnownIds = ids
        self.whose = str(queries.what)
        self.array, self.index, self.nprobe, self.ef_search = array, index, nprobe, ef_search
        self.on_gpus, self.engine = on_gpus, engine
        self.candidates = None if rescore is None else rescore or len(ids)

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Encode and search a block of queries at a time."""
        for start in range(0, len(queries), QUERIES_A_BLOCK):
            block = queries[start : start + QUERIES_A_BLOCK]
            vectors = self.queries.encode(block)
            scores, rows = self.nearest(vectors, depth)
            scores_asked = self._score(vectors, [asked.get(query_id, ()) for query_id, _ in block])
            for at, (query_id, _) in enumerate(block):
                hits = {
                    self.ids[row]: float(score)
                    for row, score in zip(rows[at].tolist(), scores[at].tolist(), strict=True)
                    if row >= 0
                }
                yield Found(query_id, rank(hits), scores_asked[at])

    def scores(
        self, queries: Sequence[tuple[str, str]], documents: dict[str, list[str]]
    ) -> list[dict[str, float | None]]:
        """Return {document: score} of given documents for each (query id, text); None for one without a vector."""
        return self._score(self.queries.encode(queries), [documents[query_id] for query_id, _ in queries])

    def nearest(self, vectors: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores float32 [Q, k] and rows [Q, k] of query vectors [Q, D], best first."""
        if self.index is not None or self.engine is not None:
            wanted = depth if self.candidates is None else max(depth, self.candidates)
            if self.engine is not None:
                scores, rows = self.engine.search(vectors, wanted)
            else:
                from drtools.search import faiss_index

                assert self.index is not None, "one of the two"
                scores, rows = faiss_index.search_index(
                    self.index, vectors, wanted, nprobe=self.nprobe, ef_search=self.ef_search, on_gpus=self.on_gpus
                )
            if self.candidates is None:
                return scores, rows
            from drtools.search.rescoring import rescored

            assert self.array is not None, "candidates are scored by their vectors"
            return rescored(self.array, vectors, rows, depth)
        from drtools.search import exact

        assert self.array is not None, "without an index there are vectors"
        return exact.search(self.array, vectors, depth, self.queries.computing.device)

    def _score(self, vectors: np.ndarray, documents: list[Sequence[str]]) -> list[dict[str, float | None]]:
        """Score documents by id, with their vectors or with those stored in the index."""
        import numpy as np

        asked = [[(document, self.ids.row_of(document)) for document in wanted] for wanted in documents]
        rows = [np.array([row for _, row in pairs if row is not None], np.int64) for pairs in asked]
        if not any(map(len, rows)):
            return [dict.fromkeys(document for document, _ in pairs) for pairs in asked]
        if self.engine is not None and self.candidates is None:
            found = self.engine.scores_of_rows(vectors, rows)
        elif self.index is not None and self.candidates is None:
            from drtools.search import faiss_index

            found = faiss_index.scores_of_rows(self.index, vectors, rows)
        else:
            from drtools.search import exact

            assert self.array is not None, "without an index there are vectors"
            found = exact.rerank(self.array, vectors, rows)
        result = []
        for pairs, scores in zip(asked, found, strict=True):
            values = iter(scores.tolist())
            result.append({document: None if row is None else next(values) for document, row in pairs})
        return result


def open_dense(
    vectors: str | None,
    index: str | None,
    encoder_flags: EncoderSpec,
    compute: ComputeSpec,
    query_vectors: str | None = None,
    joining: JoiningSpec | None = None,
    nprobe: int | None = None,
    ef_search: int | None = None,
    rescore: int | None = None,
    where: str | None = None,
) -> DenseSource:
    """Open a vectors folder for exact search, or an index folder; the vectors may be joined from two encoders'.

    With `rescore`, both are opened: the vectors give the scores of that many hits of the index.
    """
    if vectors and not index:
        opened = open_document_vectors(vectors)
        return DenseSource(
            open_queries(opened.manifest, opened.path, encoder_flags, compute, query_vectors, joining),
            opened.ids,
            array=opened.array,
        )
    from drtools.search import faiss_gpu, faiss_index

    assert index is not None, "vectors or an index is given"
    folder = Path(index)
    record = read_index(folder)
    if record.get("side") == "query":
        raise InputError(
            "an index of query vectors",
            where=folder,
            expected="one of document vectors",
            remedy=f"index the output of encode {param('documents')}",
        )
    queries = open_queries(record, folder, encoder_flags, faiss_gpu.one_device(compute), query_vectors, joining)
    if record["kind"] == "milvus":
        source = _in_engine(queries, folder, record, where, nprobe, ef_search)
    elif where:
        raise InputError("a FAISS index has no fields to filter by", where=folder, expected="an index in Milvus")
    else:
        loaded, ids = faiss_index.load_folder(folder, record)
        on_gpus = faiss_gpu.put_on_gpus(loaded, compute.device)
        source = DenseSource(queries, ids, None, loaded, nprobe, ef_search, on_gpus=on_gpus)
    if not vectors:
        return source
    from drtools.search.rescoring import refuse_other_vectors

    opened = open_document_vectors(vectors)
    refuse_other_vectors(opened, folder, source.ids, record)
    source.array, source.candidates = opened.array, None if rescore is None else rescore or len(source.ids)
    return source


def _in_engine(
    queries: QueryEncoder | JoinedQueries,
    folder: Path,
    record: Record,
    where: str | None,
    nprobe: int | None,
    ef_search: int | None,
) -> DenseSource:
    """Open an index in an engine."""
    from drtools.search.engine_search import open_engine
    from drtools.search.engines.engine import Effort

    kind = record["index_type"]
    for name, value, mark in (("nprobe", nprobe, "IVF"), ("ef_search", ef_search, "HNSW")):
        if value and not kind.startswith(mark):
            raise InputError(
                f"the index is {kind}", where=param(name), expected=f"an index of type {mark}", remedy="leave it out"
            )
    engine, ids = open_engine(folder, record, where, Effort(nprobe, ef_search))
    return DenseSource(queries, ids, engine=engine)


def index_kind(folder: str) -> str:
    """Return `lucene`, `faiss` or `milvus`; raise InputError for a folder that is not a finished index."""
    return str(read_index(folder)["kind"])
