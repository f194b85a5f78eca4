"""BM25 and RM3 by Lucene: build an index, search it, with Anserini's analyzers, fields and order of ties.

Scores are the float32 that Lucene computes; equal ones are in the order of the document ids' UTF-8 bytes. (pyserini rounds
scores to four decimals and takes millionths off tied ones; the order is the same.)
"""

from array import array
from binascii import a2b_base64
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from drtools.errors import UserError, WorldError
from drtools.retrieval.java import java_class, java_errors

LONGEST_ID_BYTES = 32_766  # Lucene's longest term
BATCH_CHARACTERS = 1_000_000
WRITE_BUFFER_MEGABYTES = 256.0  # Anserini's 2,048 are more than the heap of a small machine
NO_LIMIT = 2**31 - 1


class IndexCounts(NamedTuple):
    """What became of the documents: how many are in the index, and how many were left out because they hold no text."""

    documents: int
    empty: int


class Rm3(NamedTuple):
    """Settings of the RM3 relevance model: how many terms, of how many first hits, and the weight left to the query's own."""

    terms: int = 10
    documents: int = 10
    original_weight: float = 0.5


def build_index(
    folder: Path, documents: Iterable[tuple[str, str]], language: str = "en", keep_document_vectors: bool = False, threads: int = 2
) -> IndexCounts:
    """Index (id, contents) pairs into a folder, in the place of an index that is there; memory does not grow with their number.

    Document vectors are what RM3 needs. UserError for a language without analyzer or an id too long for Lucene; WorldError
    where the index cannot be written.
    """
    _analyzer(language)
    arguments = ["-collection", "JsonCollection", "-input", "", "-index", str(folder), "-language", language, "-threads", str(threads)]
    document = java_class("io.anserini.collection.JsonCollection$Document").fromFields
    indexed = empty = 0
    with java_errors(WorldError, f"{folder}: the Lucene index cannot be written"):
        indexer = java_class("io.anserini.index.SimpleIndexer")(arguments + ["-storeDocvectors"] * keep_document_vectors)
        writer = indexer.writer  # the indexer's own ways to end turn errors into log lines
        writer.getConfig().setRAMBufferSizeMB(WRITE_BUFFER_MEGABYTES)
        try:
            for pairs in _batches(documents):
                full = [document(identifier, contents) for identifier, contents in pairs if contents.strip()]
                if indexer.addJsonDocuments(full) < len(full):
                    raise WorldError(f"{folder}: the Lucene index cannot be written ({writer.getTragicException().toString()})")
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
            raise UserError(f"document id {identifier[:40]}... is longer than the {LONGEST_ID_BYTES:,} bytes that Lucene takes; shorten it")
        batch.append((identifier, contents))
        characters += len(identifier) + len(contents)
        if characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    yield batch


def document_count(folder: Path) -> int:
    """Return the number of documents in a Lucene index; UserError where the folder is none."""
    return _open_reader(folder).numDocs()


def analyze(text: str, language: str = "en") -> list[str]:
    """Return the terms that Lucene makes of a text: for English lower-cased, without stopwords, Porter-stemmed."""
    return list(java_class("io.anserini.analysis.AnalyzerUtils").analyze(_analyzer(language), text))


def _analyzer(language: str):
    if language == "en":
        return java_class("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
    analyzers = java_class("io.anserini.analysis.AnalyzerMap")
    if not analyzers.analyzerMap.containsKey(language):
        known = ", ".join(sorted(["en", *analyzers.analyzerMap.keySet()]))
        raise UserError(f"language {language!r} has no Lucene analyzer; those that have: {known}")
    return analyzers.getLanguageSpecificAnalyzer(language)


def _open_reader(folder: Path):
    rebuild = "build one with drtools index --lucene CORPUS"
    if not any(Path(folder).glob("segments_*")):
        raise UserError(f"{folder}: is not a Lucene index; {rebuild}")
    with java_errors(UserError, f"{folder}: the Lucene index is damaged or of another version; {rebuild}"):
        return java_class("io.anserini.index.IndexReaderUtils").getReader(str(folder))


class LuceneIndex:
    """A Lucene index, open for BM25 search or, with rm3, for BM25 search by expanded queries.

    k1 and b are BM25's; the language must be the one that the index was built with. UserError where the folder is not an index
    of Anserini's form (fields id and contents), or where RM3 is asked of one without document vectors.
    """

    def __init__(self, folder: Path, k1: float = 0.9, b: float = 0.4, rm3: Rm3 | None = None, language: str = "en") -> None:
        reader = _open_reader(folder)
        self.document_count = reader.numDocs()
        _check_fields(folder, reader, rm3)
        searchers = java_class("org.apache.lucene.search.IndexSearcher")
        searchers.setMaxClauseCount(NO_LIMIT)  # else 1,024 different words in a query are an error
        self._searcher = searchers(reader)
        self._searcher.setSimilarity(java_class("org.apache.lucene.search.similarities.BM25Similarity")(k1, b))
        self._analyzer = _analyzer(language)
        self._queries = java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._order = java_class("io.anserini.search.SimpleSearcher").BREAK_SCORE_TIES_BY_DOCID
        self._json = _hits_to_json()
        self._expand = _expansion(self._searcher, self._analyzer, self._queries, self._order, rm3, language) if rm3 else None

    def search_batches(
        self, queries: Sequence[tuple[str, str]], depth: int, threads: int = 2, batch: int = 32
    ) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield (query id, {document id: score}, best first) for each (query id, text), in their order.

        A query none of whose words are in the index has no hits. A thread searches a batch of queries at a time, and no more
        than two batches a thread are ahead of the caller, so memory does not grow with the number of queries.
        """
        with java_errors(WorldError, "Lucene stopped searching"), ThreadPoolExecutor(threads) as pool:
            ahead = deque()
            for start in range(0, len(queries), batch):
                ahead.append(pool.submit(self._search_batch, queries[start : start + batch], depth))
                if len(ahead) > 2 * threads:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()

    def _search_batch(self, queries: Sequence[tuple[str, str]], depth: int) -> list[tuple[str, dict[str, float]]]:
        import jnius

        try:
            return [(query_id, _read_hits(self._search(text, depth))) for query_id, text in queries]
        finally:
            jnius.detach()  # a thread that ends while Java knows it is never forgotten there

    def _search(self, text: str, depth: int) -> str:
        query = self._queries.buildQuery("contents", self._analyzer, text)
        if self._expand:
            query = self._expand(text, query)
        return self._json.writeValueAsString(self._searcher.search(query, depth, self._order, False))


def _check_fields(folder: Path, reader, rm3: Rm3 | None) -> None:
    fields = java_class("org.apache.lucene.index.FieldInfos").getMergedFieldInfos(reader)
    identifier, contents = fields.fieldInfo("id"), fields.fieldInfo("contents")
    if identifier is None or contents is None or identifier.getDocValuesType().toString() != "BINARY":
        raise UserError(f"{folder}: a Lucene index without documents or of another program; build one with drtools index --lucene CORPUS")
    if rm3 and not contents.hasVectors():
        raise UserError(f"{folder}: has no document vectors, which RM3 needs; build it again with --document-vectors")


def _hits_to_json():
    """Return a Java object that writes the hits of a query as one string, since a call into Java for each would take longer than
    the search: [[[score, [base64 of the id and of what lies behind it in its buffer, length of the id in bytes]]], ...].
    """
    classes = {
        "org.apache.lucene.search.TopFieldDocs": ("totalHits", "fields"),
        "org.apache.lucene.search.FieldDoc": ("doc", "score", "shardIndex"),
        "org.apache.lucene.util.BytesRef": ("offset", "valid"),
    }
    annotations = "com.fasterxml.jackson.annotation."
    as_array = java_class(annotations + "JsonFormat$Value").forShape(java_class(annotations + "JsonFormat$Shape").ARRAY)
    mapper = java_class("com.fasterxml.jackson.databind.ObjectMapper")()
    for name, left_out in classes.items():
        names = java_class("java.util.HashSet")()
        for field in left_out:
            names.add(field)
        override = mapper.configOverride(java_class(name))
        override.setFormat(as_array)
        override.setIgnorals(java_class(annotations + "JsonIgnoreProperties$Value").forIgnoredProperties(names))
    return mapper


def _read_hits(text: str) -> dict[str, float]:
    """Return {document id: score} out of what _hits_to_json's object wrote."""
    import orjson

    hits = [hit for (hit,) in orjson.loads(text)[0]]
    scores = array("f", [score for score, _ in hits])  # the decimals, read as float64, back to the float32 they stand for
    return dict(zip([a2b_base64(buffer)[:length].decode() for _, (buffer, length) in hits], scores, strict=True))


def _expansion(searcher, analyzer, queries, order, rm3: Rm3, language: str):
    """Return a function (text, its Lucene query) -> the Lucene query that Anserini's RM3 makes of it."""
    reranker = java_class("io.anserini.rerank.lib.Rm3Reranker")(
        analyzer, None, "contents", rm3.terms, rm3.documents, rm3.original_weight, False, language == "en"
    )  # the last: only terms of a-z and 0-9, which other languages would not survive
    arguments = java_class("io.anserini.search.SearchCollection$Args")()
    arguments.hits = 1  # the reranker's own search, whose hits are not used
    scored = java_class("io.anserini.search.ScoredDocs")
    contexts = java_class("io.anserini.rerank.RerankerContext")
    analysis = java_class("io.anserini.analysis.AnalyzerUtils")

    def expand(text: str, query):
        first_hits = scored.fromTopDocs(searcher.search(query, rm3.documents, order, True), searcher)
        context = contexts(searcher, None, query, None, text, analysis.analyze(analyzer, text), None, arguments)
        reranker.rerank(first_hits, context)
        return queries.buildQuery("contents", context.feedbackTerms)

    return expand
