"""Opening of an index, vectors or a run as a source of hits."""

from __future__ import annotations

from drtools.errors import InputError, param
from drtools.models.device import all_threads
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.search.multi_vector import MultiVectorSource
from drtools.search.reranking import CorpusReranker, VectorsReranker
from drtools.search.sources import DenseSource, IgnoringIdentical, LuceneSource, index_kind, open_dense
from drtools.search.specs import JoiningSpec, SourceSpec

Reranker = VectorsReranker | CorpusReranker
Opened = LuceneSource | DenseSource | Reranker


def open_source(
    spec: SourceSpec,
    encoder: EncoderSpec = EncoderSpec(),
    compute: ComputeSpec = ComputeSpec(),
    joining: JoiningSpec = JoiningSpec(),
) -> Opened:
    """Open the source of a search; raise InputError unless exactly one source is named and the settings fit it."""
    is_lucene = _checked(spec, encoder, joining)
    if spec.rerank and not spec.vectors:
        assert spec.corpus is not None, "else nothing is named"
        return CorpusReranker(spec.rerank, spec.corpus, encoder, compute, spec.title_separator)
    if is_lucene:
        assert spec.index is not None, "a Lucene index"
        if spec.nprobe or spec.ef_search:
            raise InputError(
                f"{param('nprobe')} and {param('ef_search')} are for FAISS indexes; this is a Lucene index",
                remedy="leave them out",
            )
        return LuceneSource(spec.index, spec.k1, spec.b, rm3=spec.rm3, threads=compute.threads or all_threads())
    if spec.rm3:
        raise InputError(f"{param('rm3')} is only for Lucene indexes", remedy="leave it out")
    dense = open_dense(
        spec.vectors,
        spec.index,
        encoder,
        compute,
        spec.query_vectors,
        joining,
        spec.nprobe,
        spec.ef_search,
        spec.rescore,
        spec.filter,
    )
    return VectorsReranker(spec.rerank, dense) if spec.rerank else dense


def _checked(spec: SourceSpec, encoder: EncoderSpec, joining: JoiningSpec) -> bool:
    """Return whether a Lucene index is searched."""
    index, vectors, rerank = spec.index, spec.vectors, spec.rerank
    both = bool(index and vectors and spec.rescore is not None)
    if bool(index) + bool(vectors) + bool(rerank and spec.corpus and not vectors) - both != 1:
        raise InputError(
            f"name what to search: {param('index')} INDEX, {param('vectors')} VECTORS, or {param('rerank')} RUN with "
            f"{param('vectors')} or {param('corpus')}"
        )
    if rerank and index:
        raise InputError(
            f"{param('rerank')} needs the documents' vectors ({param('vectors')}) or their texts ({param('corpus')}), "
            "not an index"
        )
    kind = index_kind(index) if index else None
    is_lucene = kind == "lucene"
    if spec.filter is not None and kind != "milvus":
        raise InputError(
            "documents have fields to filter by only in an index in Milvus",
            where=f"{param('filter')} {spec.filter}",
            remedy=f"leave it out, or build one with {param('milvus')} and {param('fields')}",
        )
    if is_lucene and spec.rescore is not None:
        raise InputError(
            f"{index} is a Lucene index, which has no vectors",
            where=param("rescore"),
            remedy="leave it out, or re-rank the run of this search",
        )
    if is_lucene and encoder.given:
        raise InputError(
            f"{index} is a Lucene index, which is searched without an encoder",
            where=" and ".join(map(param, encoder.given)),
            remedy="name a FAISS index or vectors, or leave it out",
        )
    by_texts = is_lucene or bool(rerank and not vectors)
    if spec.query_vectors and by_texts:
        raise InputError(
            f"for vectors or a FAISS index; Lucene indexes and texts need {param('queries')}",
            where=param("query_vectors"),
        )
    if joining.given and by_texts:
        raise InputError(
            "only for vectors that concat-spar joined, or an index of them",
            where=" and ".join(map(param, joining.given)),
        )
    return is_lucene


def ignoring(source: Opened | MultiVectorSource) -> IgnoringIdentical | MultiVectorSource | Reranker:
    """Return the source without documents that have the query's own id."""
    if isinstance(source, LuceneSource | DenseSource):
        return IgnoringIdentical(source)
    source.ignore_identical = True
    return source
