r"""Search an index or vectors: a run for many queries, or hits of one question.

    drtools search --index bm25 --queries queries.jsonl.gz -o bm25.run
    drtools search --index index --model star "how do vaccines work"
    drtools search --index index --model star --queries queries.jsonl.gz -o star.run
    drtools search --rerank bm25.run --model star --vectors vectors --queries queries.jsonl.gz \
        -o reranked.run

--rerank RUN scores the documents of a run with an encoder. With a FAISS index of compressed vectors, --rescore takes
that many of its hits and orders them by exact scores, from the vectors that the index was built from (or --vectors).
--multi-vector re-scores each query's top documents (--rescore) with their passages and sentences, which encode --pieces
stores: s + gamma * (best passage + best sentence). gamma is given, or tuned on dev queries. A FAISS index or vectors
folder must be searched with the encoder that made it; any other is refused. Vectors joined by concat-spar are searched
with both encoders; --mu changes the weight of the second. --filter is for an index in Milvus (index --milvus): an
expression over the fields that were indexed.

--queries - answers each query on standard output as soon as it arrives, so that one process serves a whole session.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import IgnoreIdenticalIds, Only, Role, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FileOutput
from drtools.cli.flags.search import JoiningFlags, MultiVectorFlags
from drtools.cli.show.hits import show_hits
from drtools.cli.show.lineage import corpus_behind
from drtools.cli.show.lineage import source as input_of
from drtools.errors import InputError
from drtools.formats.lines import STANDARD_INPUT
from drtools.outputs.disk import is_standard_output
from drtools.outputs.opening import open_file
from drtools.search.lucene import Rm3
from drtools.search.runs import answer_arriving, note_counts, query_texts, write_hits
from drtools.search.sources import DenseSource, HitSource, IgnoringIdentical, index_kind
from drtools.search.specs import SourceSpec
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.outputs.work import FileWork
    from drtools.search.multi_vector import MultiVectorSource

SOURCE, BM25, APPROXIMATE = "What to search", "BM25", "Approximate search"
PERSON_DEPTH, RUN_DEPTH = 10, 1000
BM25_K1, BM25_B = 0.9, 0.4
RM3 = Rm3()


@dataclass(frozen=True)
class SearchFlags:
    """What is searched, and for what."""

    words: Annotated[str | None, Argument(help="a question, to print its hits")] = None
    index: Annotated[
        str | None,
        Option(help="Lucene or FAISS index folder, or one of an index in Milvus", rich_help_panel=SOURCE),
        Role.INPUT,
    ] = None
    vectors: Annotated[
        str | None, Option(help="vectors folder, searched exactly", rich_help_panel=SOURCE), Role.INPUT
    ] = None
    rerank: Annotated[
        str | None,
        Option(
            help="run whose documents are scored with the encoder; needs --vectors or --corpus", rich_help_panel=SOURCE
        ),
        Role.INPUT,
    ] = None
    queries: Annotated[
        str | None,
        Option(help="queries file: JSONL or TSV, may be `.gz`; `-`: standard input, answered line by line"),
        Role.STREAM,
    ] = None
    only: Only = None
    query_vectors: Annotated[
        str | None, Option(help="vectors folder of the queries, instead of encoding them"), Role.INPUT
    ] = None
    depth: Annotated[int | None, Option(min=1, help="hits per query; default: 1000, for a question 10")] = None
    ignore_identical_ids: IgnoreIdenticalIds = False
    corpus: Annotated[
        str | None,
        Option(help="corpus for snippets and --rerank; default: the one that was indexed or encoded"),
        Role.INPUT,
    ] = None
    k1: Annotated[float, Option(min=0, help="BM25's k1", rich_help_panel=BM25)] = BM25_K1
    b: Annotated[float, Option(min=0, max=1, help="BM25's b", rich_help_panel=BM25)] = BM25_B
    rm3: Annotated[
        bool, Option("--rm3", help="expand queries with RM3 (needs index --document-vectors)", rich_help_panel=BM25)
    ] = False
    rm3_terms: Annotated[int, Option(min=1, help="number of expansion terms", rich_help_panel=BM25)] = RM3.terms
    rm3_documents: Annotated[int, Option(min=1, help="number of feedback documents", rich_help_panel=BM25)] = (
        RM3.documents
    )
    rm3_original_weight: Annotated[
        float, Option(min=0, max=1, help="weight of the original query", rich_help_panel=BM25)
    ] = RM3.original_weight
    nprobe: Annotated[int | None, Option(min=1, help="IVF: number of lists to visit", rich_help_panel=APPROXIMATE)] = (
        None
    )
    ef_search: Annotated[
        int | None, Option(min=1, help="HNSW: number of candidates during search", rich_help_panel=APPROXIMATE)
    ] = None
    filter: Annotated[
        str | None,
        Option(help='Milvus: search only documents that fit, `lang == "en"`', rich_help_panel=APPROXIMATE),
    ] = None

    @property
    def expansion(self) -> Rm3:
        """The settings of RM3."""
        return Rm3(self.rm3_terms, self.rm3_documents, self.rm3_original_weight)

    def check(self, output: str) -> None:
        """Raise InputError for flags that do not go together."""
        if (self.words is None) == (self.queries is None and self.query_vectors is None):
            raise InputError("pass either a question to search for, or --queries QUERIES")
        if self.words is not None and (self.only or self.rerank or output != "-"):
            needless = "--only" if self.only else "--rerank" if self.rerank else f"-o {output}"
            raise InputError(
                f"{needless} needs --queries; the hits of a single question are only printed", remedy="leave it out"
            )
        if self.words is not None and self.ignore_identical_ids:
            raise InputError("a question has no id", where="--ignore-identical-ids", remedy="leave it out")
        if (self.nprobe or self.ef_search) and not self.index:
            raise InputError(
                "--nprobe and --ef-search are for FAISS indexes; --vectors are searched exactly",
                remedy="leave them out",
            )
        if (self.k1, self.b) != (BM25_K1, BM25_B) and not (self.index and index_kind(self.index) == "lucene"):
            raise InputError("--k1 and --b are for Lucene indexes (BM25)", remedy="leave them out")
        if self.expansion != RM3 and not self.rm3:
            raise InputError(
                "--rm3-terms, --rm3-documents and --rm3-original-weight need --rm3",
                remedy="use --rm3 too, or leave them out",
            )

    def streams(self, output: str) -> bool:
        """Return whether queries are answered as they arrive."""
        whole = self.only or self.rerank or self.query_vectors
        return self.queries in STANDARD_INPUT and is_standard_output(output) and not whole

    def source(self, title_separator: str, rescore: int | None) -> SourceSpec:
        """Return what is searched."""
        vectors = self.vectors
        if self.index and rescore is not None and not vectors and index_kind(self.index) != "lucene":
            vectors = vectors_behind(self.index)
        return SourceSpec(
            self.index,
            vectors,
            self.rerank,
            self.corpus,
            self.query_vectors,
            title_separator,
            self.k1,
            self.b,
            self.expansion if self.rm3 else None,
            self.nprobe,
            self.ef_search,
            rescore if self.index else None,
            self.filter,
        )


def main(
    file: FileOutput,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    flags: SearchFlags,
    joining: JoiningFlags = JoiningFlags(),
    pieces: MultiVectorFlags = MultiVectorFlags(),
    title_separator: TitleSeparator = " ",
    tag: Annotated[str, Option(help="name of the run, its last column")] = "drtools",
) -> None:
    """Search, and write a run or print hits."""
    from drtools.evaluation.tuning import settle_gamma
    from drtools.search.multi_vector import open_multi_vector
    from drtools.search.opening import Opened, Reranker, ignoring, open_source
    from drtools.search.reranking import check_run

    flags.check(file.output)
    pieces.check(flags.vectors, flags.rerank, flags.queries, flags.words, flags.index)
    opened = open_source(flags.source(title_separator, pieces.rescore), encoder_flags, compute, joining)
    source: Opened | MultiVectorSource = opened
    if pieces.multi_vector:
        assert isinstance(opened, DenseSource) and flags.vectors is not None, "pieces.check asks for vectors"
        source = open_multi_vector(opened, flags.vectors, pieces)
    if flags.words is not None:
        return show(flags.words, source, flags)
    depth = flags.depth or RUN_DEPTH
    with open_file(file) as work:
        if flags.streams(file.output) and not pieces.multi_vector:
            return answer(ignoring(source) if flags.ignore_identical_ids else source, depth, tag, work)
        texts = query_texts(flags.queries, flags.query_vectors, flags.only)
        if flags.rerank:
            assert isinstance(source, Reranker), "a run that is re-ranked"
            check_run(flags.rerank, source.run, [query_id for query_id, _ in texts], source.documents, source.whose)
        searched: HitSource | MultiVectorSource = ignoring(source) if flags.ignore_identical_ids else source
        gamma = settle_gamma(pieces, searched, flags.queries, depth)
        counts = write_hits(searched, texts, depth, tag, work)
        note_counts(counts, len(texts), depth)
        if flags.ignore_identical_ids:
            note_identical(counts)
        work.finish(kind="run", queries=len(texts), depth=depth, counts=dict(counts), **gamma)


def vectors_behind(index: str) -> str:
    """Return the folder of the vectors that an index was built from; raise InputError if they are not there."""
    found = input_of(Path(index), ("vectors",))
    if found is None:
        raise InputError(
            "the vectors that it was built from are no longer there, or have changed",
            where=index,
            remedy="pass them as --vectors, or leave --rescore out",
        )
    return found


def note_identical(counts: Counter[str]) -> None:
    """Report how many queries found a document with their own id."""
    found = counted(counts["identical"], "query", "queries")
    reporting.say(f"{found} found a document with the same id, which was left out")


def answer(source: HitSource | MultiVectorSource, depth: int, tag: str, work: FileWork) -> None:
    """Answer queries as they arrive on standard input, and report what was odd about them at the end."""
    counts, total = answer_arriving(source, depth, tag, work)
    note_counts(counts, total, depth)
    if isinstance(source, IgnoringIdentical):
        note_identical(counts)
    work.finish(kind="run", queries=total, depth=depth, counts=dict(counts))


def show(words: str, source: HitSource | MultiVectorSource, flags: SearchFlags) -> None:
    """Print the hits of a question, with their texts if the corpus is available."""
    found = next(iter(source.search([("typed", words)], flags.depth or PERSON_DEPTH, {})))
    made_from = source.record.get("corpus")
    corpus = flags.corpus or corpus_behind(Path(flags.index or flags.vectors or ""), made_from)
    if not corpus:
        reporting.say(
            f"note: no titles and texts, because the corpus {f'{made_from} ' if made_from else ''}"
            "is not available or has changed; use --corpus"
        )
    show_hits(words, found.hits, corpus)
