"""Search an index or vectors: a TREC run for queries, or hits for a person who types words.

    drtools search --index bm25 --queries queries.jsonl.gz --only qrels/test.tsv -o bm25.run
    drtools search --index index --model star --queries queries.jsonl.gz -o star.run
    drtools search --index index --model star "how do vaccines work"

--rerank RUN scores the documents of a run by an encoder. --multi-vector scores each query's top documents anew, by
their passages and sentences too (encode --pieces, --rescore): s + gamma * (best passage + best sentence), gamma as said
or tuned on dev. A FAISS index or vectors are searched with the encoder that made them; another one is refused. Those
that concat-spar joined are searched with both their encoders: --mu weighs the second anew.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import IgnoreIdenticalIds, Only, Role, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FileOutput
from drtools.cli.flags.search import JoiningFlags, MultiVectorFlags
from drtools.errors import InputError
from drtools.evaluation.tuning import settle_gamma
from drtools.outputs import work as output
from drtools.search.lucene import Rm3
from drtools.search.multi_vector import open_multi_vector
from drtools.search.sources import QUERIES_A_BLOCK, index_kind

SOURCE, BM25, APPROXIMATE = "What to search", "BM25", "Approximate search"
PERSON_DEPTH, RUN_DEPTH = 10, 1000
BM25_K1, BM25_B = 0.9, 0.4
RM3 = Rm3()
QUERIES_A_SAVE = (
    QUERIES_A_BLOCK  # a source counts cut and empty queries a block at a time; saved within one they would count twice
)


def main(
    file: FileOutput,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    words: Annotated[str | None, Argument(help="a question, to see hits")] = None,
    index: Annotated[
        str | None, Option(help="Lucene or FAISS index folder", rich_help_panel=SOURCE), Role.INPUT
    ] = None,
    vectors: Annotated[
        str | None, Option(help="vectors folder, searched exactly", rich_help_panel=SOURCE), Role.INPUT
    ] = None,
    rerank: Annotated[
        str | None,
        Option(
            help="run whose documents are scored by the encoder; with --vectors or --corpus", rich_help_panel=SOURCE
        ),
        Role.INPUT,
    ] = None,
    queries: Annotated[str | None, Option(help="queries: JSONL or TSV, `.gz` or `-`"), Role.INPUT] = None,
    only: Only = None,
    query_vectors: Annotated[
        str | None, Option(help="vectors folder of the queries, in place of encoding them"), Role.INPUT
    ] = None,
    depth: Annotated[int | None, Option(min=1, help="hits per query; default 1000, for a person 10")] = None,
    ignore_identical_ids: IgnoreIdenticalIds = False,
    corpus: Annotated[
        str | None,
        Option(help="corpus, for snippets and --rerank; default: the one the index names"),
        Role.INPUT,
    ] = None,
    k1: Annotated[float, Option(min=0, rich_help_panel=BM25)] = BM25_K1,
    b: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = BM25_B,
    rm3: Annotated[
        bool, Option("--rm3", help="expand queries by RM3 (index --document-vectors)", rich_help_panel=BM25)
    ] = False,
    rm3_terms: Annotated[int, Option(min=1, rich_help_panel=BM25)] = RM3.terms,
    rm3_documents: Annotated[int, Option(min=1, rich_help_panel=BM25)] = RM3.documents,
    rm3_original_weight: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = RM3.original_weight,
    nprobe: Annotated[int | None, Option(min=1, help="IVF: lists to visit", rich_help_panel=APPROXIMATE)] = None,
    ef_search: Annotated[
        int | None, Option(min=1, help="HNSW: candidates while searching", rich_help_panel=APPROXIMATE)
    ] = None,
    joining: JoiningFlags = JoiningFlags(),
    pieces: MultiVectorFlags = MultiVectorFlags(),
    title_separator: TitleSeparator = " ",
    tag: Annotated[str, Option(help="the run's last column")] = "drtools",
) -> None:
    """Compose: a source of hits; a run, or hits for a person."""
    if (words is None) == (queries is None and query_vectors is None):
        raise InputError("say either words to search for, or --queries QUERIES")
    if words is not None and (only or rerank or file.output != "-"):
        needless = (
            "--only keeps queries"
            if only
            else "--rerank ranks the lists of queries"
            if rerank
            else f"-o {file.output} takes the run"
        )
        raise InputError(f"{needless} of --queries; a question is one, and its hits are shown")
    if words is not None and ignore_identical_ids:
        raise InputError("--ignore-identical-ids: a question has no id; leave it out")
    if (nprobe or ef_search) and not index:
        raise InputError("--nprobe and --ef-search are for a FAISS index; vectors are searched exactly")
    if (k1, b) != (BM25_K1, BM25_B) and not (index and index_kind(index) == "lucene"):
        raise InputError("--k1 and --b are BM25's, for a Lucene index; leave them out")
    expansion = Rm3(rm3_terms, rm3_documents, rm3_original_weight)
    if expansion != RM3 and not rm3:
        raise InputError(
            "--rm3-terms, --rm3-documents and --rm3-original-weight are RM3's; say --rm3 too, or leave them out"
        )
    pieces.check(vectors, rerank, queries, words)
    source = open_source(
        index,
        vectors,
        rerank,
        corpus,
        encoder_flags,
        compute,
        query_vectors,
        joining,
        title_separator,
        bm25=(k1, b),
        rm3=expansion if rm3 else None,
        nprobe=nprobe,
        ef_search=ef_search,
    )
    if pieces.multi_vector:
        assert vectors is not None, "pieces.check asks for them"
        source = open_multi_vector(source, vectors, pieces)
    if words is not None:
        from drtools.cli.show.hits import show_hits
        from drtools.cli.show.lineage import corpus_behind

        found = next(iter(source.search([("typed", words)], depth or PERSON_DEPTH, {})))
        made_from = source.record.get("corpus")
        corpus = corpus or corpus_behind(Path(index or vectors or ""), made_from)
        if not corpus:
            reporting.say(
                f"note: no titles and texts, since the corpus {made_from or ''} is not at hand as it was; use --corpus"
            )
        return show_hits(words, found.hits, corpus)
    with output.file(file) as work:
        texts = query_texts(queries, query_vectors, only)
        if rerank:
            from drtools.search.reranking import check_run

            check_run(rerank, source.run, [query_id for query_id, _ in texts], source.documents, source.whose)
        if ignore_identical_ids:
            source = ignoring(source)
        gamma = settle_gamma(pieces, source, queries, depth or RUN_DEPTH)
        counts = write_hits(source, texts, depth or RUN_DEPTH, tag, work)
        for name, say in (
            ("truncated", "queries were cut"),
            ("empty", "queries were empty"),
            ("short", f"queries have fewer than {depth or RUN_DEPTH:,} hits"),
            ("none", "queries have no hits"),
        ):
            reporting.notice(counts[name], f"{counts[name]:,} of {len(texts):,} {say}")
        if ignore_identical_ids:
            reporting.say(f"{counts['identical']:,} queries found a document of their own id; left out")
        work.finish(kind="run", queries=len(texts), depth=depth or RUN_DEPTH, counts=dict(counts), **gamma)


def open_source(
    index,
    vectors,
    rerank,
    corpus,
    encoder_flags,
    compute,
    query_vectors,
    joining,
    title_separator,
    *,
    bm25: tuple[float, float],
    rm3,
    nprobe,
    ef_search,
):
    """Open what is searched."""
    from drtools.models.device import all_threads
    from drtools.search.reranking import CorpusReranker, VectorsReranker
    from drtools.search.sources import LuceneSource, open_dense

    if bool(index) + bool(vectors) + bool(rerank and corpus and not vectors) != 1:
        raise InputError(
            "say what to search: --index INDEX, --vectors VECTORS, or --rerank RUN with --vectors or --corpus"
        )
    if rerank and index:
        raise InputError("--rerank takes the documents' vectors (--vectors) or their texts (--corpus), not an index")
    if index and index_kind(index) == "lucene" and encoder_flags.said:
        raise InputError(
            f"{' and '.join(encoder_flags.said)}: {index} is a Lucene index, which no encoder searches; name a FAISS "
            "index or vectors, or leave it out"
        )
    if query_vectors and ((rerank and not vectors) or (index and index_kind(index) == "lucene")):
        raise InputError(
            "--query-vectors: for vectors or a FAISS index; words are searched for and texts ranked anew by --queries"
        )
    if joining.said and ((rerank and not vectors) or (index and index_kind(index) == "lucene")):
        raise InputError(
            f"{' and '.join(joining.said)}: for vectors or an index that concat-spar joined; this is neither"
        )
    if rerank and not vectors:
        return CorpusReranker(rerank, corpus, encoder_flags, compute, title_separator)
    if index and index_kind(index) == "lucene":
        if nprobe or ef_search:
            raise InputError("--nprobe and --ef-search are for FAISS; this is a Lucene index")
        return LuceneSource(index, *bm25, rm3=rm3, threads=compute.threads or all_threads())
    if rm3:
        raise InputError("--rm3 expands queries of a Lucene index; this is none")
    dense = open_dense(
        vectors, index, encoder_flags, compute, query_vectors, joining, nprobe=nprobe, ef_search=ef_search
    )
    return VectorsReranker(rerank, dense) if rerank else dense


def ignoring(source):
    """Return the source without the documents of the queries' own ids."""
    from drtools.search.sources import DenseSource, IgnoringIdentical, LuceneSource

    if isinstance(source, LuceneSource | DenseSource):
        return IgnoringIdentical(source)
    source.ignore_identical = True
    return source


def query_texts(queries: str | None, query_vectors: str | None, only: str | None) -> list[tuple[str, str]]:
    """Return (query id, text) of every query to search for; queries known by their vectors alone have no text."""
    from drtools.formats.text_sources import check_judged, judged_queries
    from drtools.formats.trec import read_qrels
    from drtools.formats.vectors import open_vectors

    if queries:
        return list(judged_queries(queries, only).items())
    assert query_vectors is not None, "words, queries or their vectors are said"
    ids = open_vectors(query_vectors).ids
    judged = read_qrels(only) if only else None
    if only and judged is not None:
        check_judged(judged, only, ids, query_vectors)
    return [(query_id, "") for query_id in ids if judged is None or query_id in judged]


def write_hits(source, texts, depth: int, tag: str, work) -> Counter:
    """Write the run query by query; what is written counts as done every so many queries."""
    from drtools.formats.trec import write_run

    done = work.state.get("done", 0)
    counts = Counter(work.state.get("counts", {}))
    with reporting.progress("searching", len(texts), "queries", done) as progress:
        for number, found in enumerate(source.search(texts[done:], depth, {}), start=done + 1):
            write_run(work.stream, [(found.query_id, found.hits)], tag)
            counts.update(hits=len(found.hits), short=len(found.hits) < depth, none=not found.hits)
            progress.advance(1)
            if number % QUERIES_A_SAVE == 0:
                work.save(done=number, counts=counts + source.noted)
    return counts + source.noted
