"""Build an index of a corpus (BM25, Lucene) or of vectors (FAISS, Milvus).

    drtools index --corpus corpus.jsonl.gz -o bm25
    drtools index --vectors vectors --factory HNSW32 --check -o index
    drtools index --vectors vectors --factory IVF1024,Flat -o lists
    drtools index --vectors vectors-today --update lists -o lists-today

--factory takes any FAISS factory string (Flat, HNSW32, IVF1024,Flat, OPQ64_256,IVF4096,PQ64 ...), or int8, int4, binary
or rabitq for small vectors; suggest-index compares a dozen on your vectors. The score is the inner product. The string
is first tried on a few vectors, and refused if that fails. PCA rotates the vectors without subtracting their mean,
which would change the order of the scores.

--update removes vectors that are gone or changed from an earlier index and adds the new ones, without training. It
works for Flat, IVF, PQ and SQ, also after OPQ or PCA. In HNSW deleted vectors are marked, and searches leave them out;
once more than a tenth is marked, the index is built anew. To fast-scan indexes vectors can only be added at the end;
any other update of them is refused. Documents that --vectors lacks are dropped, and their number is reported; an update
that drops more than a tenth is refused (--allow-dropped).

--milvus loads the vectors into a collection of a Milvus server or of Milvus Lite (pip install 'drtools[milvus]') and
builds the index there. The output folder names the collection, and search --index reads it as any index. A stopped
command continues after the last request that was answered. --update changes the collection in place, so that the
earlier folder can no longer be searched; to switch readers in one step, build a new one and publish it. See
docs/engines.md.

With faiss-gpu, --device cuda or cuda:all builds on GPUs: k-means, and the list of each vector. The file is an index for
processors and GPUs alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from drtools import reporting, units
from drtools.cli.flags.common import AllowDropped, DryRun, Role, Seed, Threads, TitleSeparator, given_flags
from drtools.cli.flags.milvus import MilvusFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.show.lineage import corpus_behind, manifest_of
from drtools.errors import InputError
from drtools.formats.corpus_store import open_store
from drtools.formats.dropped import ALLOW_DROPPED
from drtools.formats.fields import parse_names
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change
from drtools.search.specs import FaissSpec, LuceneSpec

LUCENE, FAISS = "Lucene", "FAISS"
# what 0.1.0 computed otherwise for the same arguments
PCA_CHANGE = "PCA rotates the vectors and does not subtract their mean"


@dataclass(frozen=True)
class IndexFlags:
    """What is indexed, and how."""

    lucene: Annotated[
        str | None,
        Option(
            "--corpus",
            "--lucene",
            help="corpus to index for BM25: JSONL or TSV, may be `.gz`; `-`: standard input",
        ),
        Role.INPUT,
    ] = None
    vectors: Annotated[str | None, Option(help="vectors folder to index with FAISS"), Role.INPUT] = None
    language: Annotated[str, Option(help="language of the analyzer: en, zh, ja, de ...", rich_help_panel=LUCENE)] = "en"
    document_vectors: Annotated[
        bool, Option("--document-vectors", help="store term vectors, which RM3 needs", rich_help_panel=LUCENE)
    ] = False
    title_separator: TitleSeparator = " "
    factory: Annotated[
        str | None,
        Option(help="FAISS factory string, or int8, int4, binary or rabitq; default: Flat", rich_help_panel=FAISS),
    ] = None
    update: Annotated[
        str | None,
        Option(help="earlier index of vectors to update: remove and add vectors instead of building anew"),
        Role.UPDATED,
    ] = None
    allow_dropped: AllowDropped = None
    train_sample: Annotated[
        int | None,
        Option(min=1, help="number of vectors to train on; default: what the index needs", rich_help_panel=FAISS),
    ] = None
    ef_construction: Annotated[
        int | None, Option(min=1, help="HNSW: number of candidates during construction", rich_help_panel=FAISS)
    ] = None
    check: Annotated[bool, Option("--check", help="measure recall against exact search", rich_help_panel=FAISS)] = False
    check_queries: Annotated[
        str | None,
        Option(
            help="vectors folder of queries to check with; default: a sample of the documents", rich_help_panel=FAISS
        ),
        Role.INPUT,
    ] = None
    check_depth: Annotated[int, Option(min=1, help="number of hits for --check", rich_help_panel=FAISS)] = 100
    seed: Seed = 42
    threads: Threads = 0
    device: Annotated[
        str,
        Option(
            help="where FAISS trains and assigns: auto, cpu, cuda, cuda:1, cuda:all or cuda:0,cuda:1",
            rich_help_panel=FAISS,
        ),
        Role.UNRECORDED,
    ] = "auto"

    def check_together(self, milvus: MilvusFlags) -> None:
        """Raise InputError for flags that do not go together."""
        milvus.check()
        if milvus.milvus:
            return self._check_with_milvus(milvus)
        if (self.lucene is None) == (self.vectors is None):
            raise InputError("pass either --corpus CORPUS or --vectors VECTORS")
        if self.update and (self.lucene or self.train_sample or self.ef_construction):
            raise InputError(
                "--update is for FAISS indexes and does not train",
                remedy="leave --corpus, --train-sample and --ef-construction out, or leave --update out",
            )
        if self.allow_dropped is not None and not self.update:
            raise InputError("--allow-dropped needs --update", remedy="pass --update too, or leave --allow-dropped out")
        of_faiss = given_flags(
            {
                "factory": self.factory,
                "train_sample": self.train_sample,
                "ef_construction": self.ef_construction,
                "check": self.check,
                "check_queries": self.check_queries,
                "device": None if self.device == "auto" else self.device,
            }
        )
        of_lucene = given_flags(
            {"document_vectors": self.document_vectors, "language": self.language if self.language != "en" else None}
        )
        if needless := of_faiss if self.lucene else of_lucene:
            raise InputError(
                f"this is for {('FAISS indexes (--vectors)' if self.lucene else 'Lucene indexes (--corpus)')}",
                where=" and ".join(needless),
                remedy="leave it out",
            )

    def _check_with_milvus(self, milvus: MilvusFlags) -> None:
        needless = given_flags(
            {
                "factory": self.factory,
                "train_sample": self.train_sample,
                "ef_construction": self.ef_construction,
                "document_vectors": self.document_vectors,
                "corpus": None if milvus.fields or self.update else self.lucene,
            }
        )
        if needless:
            raise InputError("this cannot be used with --milvus", where=" and ".join(needless), remedy="leave it out")
        if not self.vectors:
            raise InputError("--milvus needs --vectors", remedy="pass --vectors VECTORS too")
        if self.allow_dropped is not None and not self.update:
            raise InputError("--allow-dropped needs --update", remedy="pass --update too, or leave --allow-dropped out")


def main(folder: FolderOutput, flags: IndexFlags, milvus: MilvusFlags = MilvusFlags(), dry_run: DryRun = False) -> None:
    """Build one of the kinds of index into the output folder."""
    flags.check_together(milvus)
    if milvus.milvus:
        in_milvus(folder, flags, milvus, dry_run)
    elif flags.lucene:
        of_lucene(folder, flags, dry_run)
    else:
        of_faiss(folder, flags, dry_run)


def of_lucene(folder: FolderOutput, flags: IndexFlags, dry_run: bool) -> None:
    """Index a corpus for BM25."""
    from drtools.search.index_folder import build_lucene, say_lucene_plan

    assert flags.lucene is not None, "checked above"
    spec = LuceneSpec(flags.lucene, flags.language, flags.document_vectors, flags.title_separator, flags.threads)
    store = open_store(spec.corpus)
    if dry_run:
        return say_lucene_plan(store, spec)
    with open_folder(folder) as work:
        facts = build_lucene(work, store, spec)
        work.finish(kind="lucene", **facts)
    reporting.say(f"{folder.output}: {units.counted(facts['count'], 'document')}")


def of_faiss(folder: FolderOutput, flags: IndexFlags, dry_run: bool) -> None:
    """Index vectors with FAISS."""
    from drtools.search.index_folder import build_faiss, plan_faiss

    assert flags.vectors is not None, "checked above"
    spec = FaissSpec(
        flags.vectors,
        flags.factory,
        flags.update,
        flags.train_sample,
        flags.ef_construction,
        flags.check or bool(flags.check_queries),
        flags.check_queries,
        flags.check_depth,
        flags.seed,
        flags.threads,
        ALLOW_DROPPED if flags.allow_dropped is None else flags.allow_dropped,
        flags.device,
    )
    plan = plan_faiss(spec)
    if dry_run:
        return
    if "PCA" in plan.factory and not flags.update:
        add_change(folder.request, PCA_CHANGE)
    with open_folder(folder) as work:
        facts = build_faiss(work, spec, plan)
        work.finish(kind="faiss", **facts)
    size = (Path(folder.output) / "index.faiss").stat().st_size
    reporting.say(f"{folder.output}: {units.counted(facts['count'], 'vector')}, {units.bytes_as_words(size)}")


def in_milvus(folder: FolderOutput, flags: IndexFlags, milvus: MilvusFlags, dry_run: bool) -> None:
    """Load vectors into a collection of Milvus."""
    from drtools.search.engine_index import build_engine, plan_engine
    from drtools.search.engine_specs import EngineSpec
    from drtools.search.engines.places import check_uri

    assert flags.vectors and milvus.milvus and milvus.collection, "checked above"
    check_uri(milvus.milvus)
    corpus = flags.lucene
    if corpus is None and (milvus.fields or flags.update):
        corpus = corpus_behind(Path(flags.vectors), (manifest_of(Path(flags.vectors)) or {}).get("corpus"))
    spec = EngineSpec(
        flags.vectors,
        milvus.milvus,
        milvus.collection,
        milvus.index_type,
        milvus.parameters,
        parse_names(milvus.fields),
        corpus,
        flags.update,
        ALLOW_DROPPED if flags.allow_dropped is None else flags.allow_dropped,
        flags.check,
        flags.check_queries,
        flags.check_depth,
        flags.seed,
    )
    plan = plan_engine(spec)
    if dry_run:
        return
    with open_folder(folder) as work:
        facts = build_engine(work, spec, plan)
        work.finish(kind="milvus", **facts)
    reporting.say(f"{folder.output}: {units.counted(facts['count'], 'vector')} in {facts['collection']}")
