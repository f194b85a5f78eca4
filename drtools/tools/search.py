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
from drtools.errors import InputError
from drtools.evaluation.tuning import settle_gamma
from drtools.outputs.opening import open_file
from drtools.search.lucene import Rm3
from drtools.search.runs import note_counts, query_texts, write_hits
from drtools.search.sources import DenseSource, HitSource, index_kind
from drtools.search.specs import SourceSpec

if TYPE_CHECKING:
    from drtools.search.multi_vector import MultiVectorSource

SOURCE, BM25, APPROXIMATE = "What to search", "BM25", "Approximate search"
PERSON_DEPTH, RUN_DEPTH = 10, 1000
BM25_K1, BM25_B = 0.9, 0.4
RM3 = Rm3()


@dataclass(frozen=True)
class SearchFlags:
    """What is searched, and for what."""

    words: Annotated[str | None, Argument(help="a question, to see hits")] = None
    index: Annotated[str | None, Option(help="Lucene or FAISS index folder", rich_help_panel=SOURCE), Role.INPUT] = None
    vectors: Annotated[
        str | None, Option(help="vectors folder, searched exactly", rich_help_panel=SOURCE), Role.INPUT
    ] = None
    rerank: Annotated[
        str | None,
        Option(
            help="run whose documents are scored by the encoder; with --vectors or --corpus", rich_help_panel=SOURCE
        ),
        Role.INPUT,
    ] = None
    queries: Annotated[str | None, Option(help="queries: JSONL or TSV, `.gz` or `-`"), Role.INPUT] = None
    only: Only = None
    query_vectors: Annotated[
        str | None, Option(help="vectors folder of the queries, in place of encoding them"), Role.INPUT
    ] = None
    depth: Annotated[int | None, Option(min=1, help="hits per query; default 1000, for a person 10")] = None
    ignore_identical_ids: IgnoreIdenticalIds = False
    corpus: Annotated[
        str | None,
        Option(help="corpus, for snippets and --rerank; default: the one the index names"),
        Role.INPUT,
    ] = None
    k1: Annotated[float, Option(min=0, rich_help_panel=BM25)] = BM25_K1
    b: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = BM25_B
    rm3: Annotated[
        bool, Option("--rm3", help="expand queries by RM3 (index --document-vectors)", rich_help_panel=BM25)
    ] = False
    rm3_terms: Annotated[int, Option(min=1, rich_help_panel=BM25)] = RM3.terms
    rm3_documents: Annotated[int, Option(min=1, rich_help_panel=BM25)] = RM3.documents
    rm3_original_weight: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = RM3.original_weight
    nprobe: Annotated[int | None, Option(min=1, help="IVF: lists to visit", rich_help_panel=APPROXIMATE)] = None
    ef_search: Annotated[
        int | None, Option(min=1, help="HNSW: candidates while searching", rich_help_panel=APPROXIMATE)
    ] = None

    @property
    def expansion(self) -> Rm3:
        """RM3's settings."""
        return Rm3(self.rm3_terms, self.rm3_documents, self.rm3_original_weight)

    def check(self, output: str) -> None:
        """Raise InputError for flags that do not go together."""
        if (self.words is None) == (self.queries is None and self.query_vectors is None):
            raise InputError("pass either words to search for, or --queries QUERIES")
        if self.words is not None and (self.only or self.rerank or output != "-"):
            needless = (
                "--only keeps queries"
                if self.only
                else "--rerank ranks the lists of queries"
                if self.rerank
                else f"-o {output} takes the run"
            )
            raise InputError(f"{needless} of --queries; a question is one, and its hits are shown")
        if self.words is not None and self.ignore_identical_ids:
            raise InputError("a question has no id", where="--ignore-identical-ids", remedy="leave it out")
        if (self.nprobe or self.ef_search) and not self.index:
            raise InputError("--nprobe and --ef-search are for a FAISS index; vectors are searched exactly")
        if (self.k1, self.b) != (BM25_K1, BM25_B) and not (self.index and index_kind(self.index) == "lucene"):
            raise InputError("--k1 and --b are BM25's, for a Lucene index", remedy="leave them out")
        if self.expansion != RM3 and not self.rm3:
            raise InputError(
                "--rm3-terms, --rm3-documents and --rm3-original-weight are RM3's",
                remedy="use --rm3 too, or leave them out",
            )

    def source(self, title_separator: str) -> SourceSpec:
        """Return what is searched."""
        return SourceSpec(
            self.index,
            self.vectors,
            self.rerank,
            self.corpus,
            self.query_vectors,
            title_separator,
            self.k1,
            self.b,
            self.expansion if self.rm3 else None,
            self.nprobe,
            self.ef_search,
        )


def main(
    file: FileOutput,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    flags: SearchFlags,
    joining: JoiningFlags = JoiningFlags(),
    pieces: MultiVectorFlags = MultiVectorFlags(),
    title_separator: TitleSeparator = " ",
    tag: Annotated[str, Option(help="the run's last column")] = "drtools",
) -> None:
    """Compose: a source of hits; a run, or hits for a person."""
    from drtools.search.multi_vector import open_multi_vector
    from drtools.search.opening import Opened, Reranker, ignoring, open_source
    from drtools.search.reranking import check_run

    flags.check(file.output)
    pieces.check(flags.vectors, flags.rerank, flags.queries, flags.words)
    opened = open_source(flags.source(title_separator), encoder_flags, compute, joining)
    source: Opened | MultiVectorSource = opened
    if pieces.multi_vector:
        assert isinstance(opened, DenseSource) and flags.vectors is not None, "pieces.check asks for vectors"
        source = open_multi_vector(opened, flags.vectors, pieces)
    if flags.words is not None:
        return show(flags.words, source, flags)
    depth = flags.depth or RUN_DEPTH
    with open_file(file) as work:
        texts = query_texts(flags.queries, flags.query_vectors, flags.only)
        if flags.rerank:
            assert isinstance(source, Reranker), "a run that is ranked anew"
            check_run(flags.rerank, source.run, [query_id for query_id, _ in texts], source.documents, source.whose)
        searched: HitSource | MultiVectorSource = ignoring(source) if flags.ignore_identical_ids else source
        gamma = settle_gamma(pieces, searched, flags.queries, depth)
        counts = write_hits(searched, texts, depth, tag, work)
        note_counts(counts, len(texts), depth)
        if flags.ignore_identical_ids:
            reporting.say(f"{counts['identical']:,} queries found a document of their own id; left out")
        work.finish(kind="run", queries=len(texts), depth=depth, counts=dict(counts), **gamma)


def show(words: str, source: HitSource | MultiVectorSource, flags: SearchFlags) -> None:
    """Show a person the hits of a question, with their texts where the corpus is at hand."""
    found = next(iter(source.search([("typed", words)], flags.depth or PERSON_DEPTH, {})))
    made_from = source.record.get("corpus")
    corpus = flags.corpus or corpus_behind(Path(flags.index or flags.vectors or ""), made_from)
    if not corpus:
        reporting.say(
            f"note: no titles and texts, since the corpus {made_from or ''} is not at hand as it was; use --corpus"
        )
    show_hits(words, found.hits, corpus)
