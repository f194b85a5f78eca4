"""BM25 and RM3 with Lucene: build and search an index, with Anserini's analyzers, fields and order of ties.

Scores are the float32 that Lucene computes. Ties are ordered by the UTF-8 bytes of the document ids. pyserini has the
same order, but rounds scores to four decimals and lowers tied ones by millionths: see `separate_ties`.
"""

from array import array
from binascii import a2b_base64
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from drtools.errors import InputError, WorldError, param
from drtools.java import JavaObject, java_class, java_errors
from drtools.models.analyzer import language_analyzer

if TYPE_CHECKING:
    from concurrent.futures import Future

LONGEST_ID_BYTES = 32_766  # Lucene's longest term
BATCH_CHARACTERS = 1_000_000
WRITE_BUFFER_MEGABYTES = 256.0  # Anserini's 2,048 are more than the heap of a small machine
IDS_A_LOOK = 1000
NO_LIMIT = 2**31 - 1
Java = Any  # an object or a class of Java, whose methods pyjnius finds at run time


class IndexCounts(NamedTuple):
    """How many documents are in the index, and how many were left out because they have no text."""

    documents: int
    empty: int


class Rm3(NamedTuple):
    """Settings of RM3: the number of expansion terms, of feedback documents, and the weight of the original query."""

    terms: int = 10
    documents: int = 10
    original_weight: float = 0.5


def build_index(
    folder: Path,
    documents: Iterable[tuple[str, str]],
    language: str = "en",
    keep_document_vectors: bool = False,
    threads: int = 2,
) -> IndexCounts:
    """Index (id, contents) pairs into a folder, replacing an index that is there.

    Memory does not grow with the number of documents. RM3 needs document vectors. Raises InputError for a language
    without an analyzer or an id that is too long for Lucene, and WorldError if the index cannot be written.
    """
    language_analyzer(language)
    # absolute, because Java keeps the working directory in which it was started
    arguments = [
        "-collection",
        "JsonCollection",
        "-input",
        "",
        "-index",
        str(folder.absolute()),
        "-language",
        language,
        "-threads",
        str(threads),
    ]
    document = java_class("io.anserini.collection.JsonCollection$Document").fromFields
    indexed = empty = 0
    with java_errors(WorldError, f"{folder}: the Lucene index cannot be written"):
        indexer = java_class("io.anserini.index.SimpleIndexer")(
            arguments + ["-storeDocvectors"] * keep_document_vectors
        )
        writer = indexer.writer  # the indexer's own close methods turn errors into log lines
        writer.getConfig().setRAMBufferSizeMB(WRITE_BUFFER_MEGABYTES)
        try:
            for pairs in _batches(documents):
                full = [document(identifier, contents) for identifier, contents in pairs if contents.strip()]
                if indexer.addJsonDocuments(full) < len(full):
                    raise WorldError(
                        f"{folder}: the Lucene index cannot be written ({writer.getTragicException().toString()})"
                    )
                indexed += len(full)
                empty += len(pairs) - len(full)
            writer.close()
        finally:
            writer.rollback()
    return IndexCounts(indexed, empty)


def _batches(documents: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield the documents in lists of about BATCH_CHARACTERS."""
    batch: list[tuple[str, str]] = []
    characters = 0
    for identifier, contents in documents:
        if len(identifier.encode()) > LONGEST_ID_BYTES:
            raise InputError(
                f"document id {identifier[:40]}... is longer than Lucene's limit of {LONGEST_ID_BYTES:,} bytes",
                remedy="shorten it",
            )
        batch.append((identifier, contents))
        characters += len(identifier) + len(contents)
        if characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    yield batch


def document_count(folder: Path) -> int:
    """Return the number of documents in a Lucene index; raise InputError if the folder is not one."""
    return int(_open_reader(folder).numDocs())


def analyze(text: str, language: str = "en") -> list[str]:
    """Return Lucene's terms of a text; in English they are lower-cased, without stopwords, and Porter-stemmed."""
    return list(java_class("io.anserini.analysis.AnalyzerUtils").analyze(language_analyzer(language), text))


def _open_reader(folder: Path) -> JavaObject:
    remedy = f"build one with drtools index {param('corpus')} CORPUS"
    if not any(folder.glob("segments_*")):
        raise InputError("is not a Lucene index", where=folder, remedy=remedy)
    with java_errors(InputError, f"{folder}: the Lucene index is damaged or has another version; {remedy}"):
        return java_class("io.anserini.index.IndexReaderUtils").getReader(str(folder.absolute()))


class LuceneIndex:
    """A Lucene index that is open for search by BM25 and, with `rm3`, with queries expanded by RM3.

    `k1` and `b` are BM25's parameters. The language must be the one that the index was built with. Raises InputError if
    the folder is not an index of Anserini's form (fields id and contents), or if RM3 is used without document vectors.
    """

    def __init__(
        self, folder: Path, k1: float = 0.9, b: float = 0.4, rm3: Rm3 | None = None, language: str = "en"
    ) -> None:
        reader = _open_reader(folder)
        _check_fields(folder, reader, rm3)
        self.document_count = reader.numDocs()
        searchers = java_class("org.apache.lucene.search.IndexSearcher")
        searchers.setMaxClauseCount(NO_LIMIT)  # otherwise a query with 1,025 different words is an error
        self._searcher = searchers(reader)
        self._searcher.setSimilarity(java_class("org.apache.lucene.search.similarities.BM25Similarity")(k1, b))
        self._analyzer = language_analyzer(language)
        self._words = java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._order = java_class("io.anserini.search.SimpleSearcher").BREAK_SCORE_TIES_BY_DOCID
        self._json = _hits_to_json()
        self._expand = self._expansion(rm3, language) if rm3 else None

    def search_batches(
        self, queries: Sequence[tuple[str, str]], depth: int, threads: int = 2, batch: int = 16
    ) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield (query id, {document id: score}) for each (query id, text), in order; hits are sorted best first.

        A query without any word in the index has no hits. Each thread takes a batch of queries at a time, and threads
        are at most two batches each ahead of the caller, so memory does not grow with the number of queries.
        """
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and not needed for --help

        pool = ThreadPoolExecutor(threads)
        ahead: deque[Future[list[tuple[str, dict[str, float]]]]] = deque()
        with java_errors(WorldError, "Lucene stopped searching"):
            try:
                for start in range(0, len(queries), batch):
                    ahead.append(pool.submit(self._search_batch, queries[start : start + batch], depth))
                    if len(ahead) > 2 * threads:
                        yield from ahead.popleft().result()
                while ahead:
                    yield from ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def score_documents(self, text: str, documents: Sequence[str]) -> dict[str, float]:
        """Return {document id: score}, best first, for those of the documents that share a word with a query.

        They are scored at any rank.
        """
        clauses = java_class("org.apache.lucene.search.BooleanClause$Occur")
        query = java_class("org.apache.lucene.search.BooleanQuery$Builder")()
        query.add(self._query(text), clauses.MUST)
        query.add(self._with_ids(documents), clauses.FILTER)
        with java_errors(WorldError, "Lucene stopped searching"):
            return self._hits(query.build(), len(documents))

    def __contains__(self, document: object) -> bool:
        return isinstance(document, str) and not self.missing([document])

    def __iter__(self) -> Iterator[str]:
        """Yield one of the ids, as an example; an index is not meant to be listed."""
        yield from self._hits(java_class("org.apache.lucene.search.MatchAllDocsQuery")(), 1)

    def missing(self, documents: Sequence[str]) -> list[str]:
        """Return the ids that are not in the index, in order."""
        known: dict[str, float] = {}
        with java_errors(WorldError, "Lucene stopped searching"):
            for start in range(0, len(documents), IDS_A_LOOK):
                some = documents[start : start + IDS_A_LOOK]
                known |= self._hits(self._with_ids(some), len(some))
        return [document for document in documents if document not in known]

    def _with_ids(self, documents: Sequence[str]) -> JavaObject:
        names = java_class("java.util.ArrayList")()
        for document in documents:
            names.add(java_class("org.apache.lucene.util.BytesRef")(document.encode()))
        return java_class("org.apache.lucene.search.TermInSetQuery")("id", names)

    def _search_batch(self, queries: Sequence[tuple[str, str]], depth: int) -> list[tuple[str, dict[str, float]]]:
        import jnius

        try:
            return [(query_id, self._hits(self._query(text), depth)) for query_id, text in queries]
        finally:
            jnius.detach()  # otherwise Java keeps the thread after its end

    def _query(self, text: str) -> JavaObject:
        query = self._words.buildQuery("contents", self._analyzer, text)
        return self._expand(text, query) if self._expand else query

    def _hits(self, query: JavaObject, depth: int) -> dict[str, float]:
        return _read_hits(self._json.writeValueAsString(self._searcher.search(query, depth, self._order, False)))

    def _expansion(self, rm3: Rm3, language: str) -> Callable[[str, JavaObject], JavaObject]:
        """Return a function from (text, its Lucene query) to the Lucene query that Anserini's RM3 makes of it."""
        only_plain = language == "en"  # terms of a-z and 0-9, of which other scripts have none
        settings = (rm3.terms, rm3.documents, rm3.original_weight, False, only_plain)
        reranker = java_class("io.anserini.rerank.lib.Rm3Reranker")(self._analyzer, None, "contents", *settings)
        arguments = java_class("io.anserini.search.SearchCollection$Args")()
        arguments.hits = 1  # of the reranker's own search, which is not used here
        scored = java_class("io.anserini.search.ScoredDocs")
        contexts = java_class("io.anserini.rerank.RerankerContext")
        words = java_class("io.anserini.analysis.AnalyzerUtils")

        def expand(text: str, query: JavaObject) -> JavaObject:
            first = scored.fromTopDocs(self._searcher.search(query, rm3.documents, self._order, True), self._searcher)
            context = contexts(
                self._searcher, None, query, None, text, words.analyze(self._analyzer, text), None, arguments
            )
            reranker.rerank(first, context)
            return self._words.buildQuery("contents", context.feedbackTerms)

        return expand


def _check_fields(folder: Path, reader: JavaObject, rm3: Rm3 | None) -> None:
    fields = java_class("org.apache.lucene.index.FieldInfos").getMergedFieldInfos(reader)
    identifier, contents = fields.fieldInfo("id"), fields.fieldInfo("contents")
    if identifier is None or contents is None or identifier.getDocValuesType().toString() != "BINARY":
        raise InputError(
            "a Lucene index that is empty or was built by another program",
            where=folder,
            remedy=f"build one with drtools index {param('corpus')} CORPUS",
        )
    if rm3 and not contents.hasVectors():
        raise InputError(
            "has no document vectors, which RM3 needs",
            where=folder,
            remedy=f"build it again with {param('document_vectors')}",
        )


def _hits_to_json() -> JavaObject:
    """Return a Java object that writes all hits of a query as one string.

    A call into Java for each hit would take longer than the search. The object writes
    [[[[score, [base64 of the buffer that begins with the document id, length of the id in bytes]]], ...]].
    """
    left_out = {
        "org.apache.lucene.search.TopFieldDocs": ("totalHits", "fields"),
        "org.apache.lucene.search.FieldDoc": ("doc", "score", "shardIndex"),
        "org.apache.lucene.util.BytesRef": ("offset", "valid"),
    }
    annotations = "com.fasterxml.jackson.annotation."
    as_array = java_class(annotations + "JsonFormat$Value").forShape(java_class(annotations + "JsonFormat$Shape").ARRAY)
    mapper = java_class("com.fasterxml.jackson.databind.ObjectMapper")()
    for name, fields in left_out.items():
        names = java_class("java.util.HashSet")()
        for field in fields:
            names.add(field)
        form = mapper.configOverride(java_class(name))
        form.setFormat(as_array)
        form.setIgnorals(java_class(annotations + "JsonIgnoreProperties$Value").forIgnoredProperties(names))
    return mapper


def _read_hits(text: str) -> dict[str, float]:
    """Parse the string that the object of `_hits_to_json` wrote into {document id: score}."""
    hits = [hit for (hit,) in orjson.loads(text)[0]]
    scores = array("f", [score for score, _ in hits])  # decimals, read as float64, back to float32
    return dict(zip([a2b_base64(buffer)[:length].decode() for _, (buffer, length) in hits], scores, strict=True))


def separate_ties(hits: dict[str, float]) -> dict[str, float]:
    """Lower each score that is not below the previous one by the smallest float32 step, and keep the others.

    Takes and returns one query's {document id: positive score}, best first. A run with these scores keeps Lucene's
    order, however its reader breaks ties, and has the measures that Anserini publishes.
    """
    import numpy as np

    steps = (
        np.array(list(hits.values()), dtype=np.float32).view(np.int32).astype(np.int64)
    )  # integers that are successive for successive floats
    places = np.arange(len(hits))
    falling = np.minimum.accumulate(steps + places) - places
    return dict(zip(hits, falling.astype(np.int32).view(np.float32).tolist(), strict=True))
