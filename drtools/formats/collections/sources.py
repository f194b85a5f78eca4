"""The sources of a collection: files and folders, names of ir_datasets, names on the Hugging Face hub."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from drtools.errors import InputError, param
from drtools.formats.collections import hub, irds
from drtools.formats.collections.files import ROLES, parts_of
from drtools.formats.collections.parts import Parts, ReadingOptions
from drtools.formats.lines import STANDARD_INPUT

KNOWN = {  # files and folders, as the list of what is known shows them
    "TREC SGML": "documents in <DOC> with a <DOCNO>",
    "TREC topics": "classic <top> or XML <topic number=...>; their title, description or narrative is the query",
    "judgements": "TREC's four columns, BEIR's three, or a table that names query, document and grade",
    "SQuAD JSON": "paragraphs become documents, questions queries with their answers",
    "JSON lines, JSON array": "documents or queries by usual keys (BEIR, Pyserini, Tevatron) or named columns",
    "TSV, CSV": "documents or queries, with a header, or as MS MARCO and DPR write them",
    "Parquet, Arrow": "the same columns",
    "BEIR folder or .zip": "corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv",
    "LoTTE folder": "collection.tsv with qas.forum.jsonl and qas.search.jsonl; the split is forum or search",
    "Multi-CPR folder": "corpus.tsv, SPLIT.query.txt and qrels.SPLIT.tsv",
    "cMedQA v2 folder": "question.csv, answer.csv and SPLIT_candidates.txt, or the archives that are published",
    "DuReader folder": "trainset/ and devset/ with search.SPLIT.json and zhidao.SPLIT.json",
    "DuReader-Retrieval folder": "passage-collection/, passage2id.map.json and dev/dev.json",
    "hf:OWNER/NAME": "a data set on the Hugging Face hub, whose files are Parquet, Arrow, JSON, CSV or TSV",
}


def known() -> Iterator[tuple[str, str]]:
    """Yield the name and a description of everything that can be a source."""
    yield from KNOWN.items()
    for name in irds.names():
        yield name, "ir_datasets"


def parts_of_sources(sources: Sequence[str], named: Mapping[str, Sequence[str]], options: ReadingOptions) -> Parts:
    """Return the parts of all sources: of those whose role is recognised, and of files by `named` role.

    Raises InputError for a name that is none, and for data sets with different documents.
    """
    corpora = {irds.corpus_of(each): each for each in sources if _is_name(each) and irds.is_known(each)}
    if len(corpora) > 1:
        first, second = list(corpora.values())[:2]
        raise InputError(f"{first} and {second} have different documents", remedy="make a folder of each of the two")
    parts, has_corpus = Parts(), False
    for source in sources:
        found = _parts_of_one(source, options)
        if has_corpus and irds.is_known(source) and _is_name(source):
            found = Parts((), found.queries, found.judgements, found.answers, None, found.cautions)
        has_corpus = has_corpus or (_is_name(source) and bool(found.documents))
        parts += found
    for role in ROLES:
        for path in named.get(role, ()):
            parts += parts_of(path, role, options)
    return parts


def _is_name(source: str) -> bool:
    return source not in STANDARD_INPUT and not Path(source).exists()


def _parts_of_one(source: str, options: ReadingOptions) -> Parts:
    if not _is_name(source):
        return parts_of(source, None, options)
    if source.startswith(hub.PREFIX):
        return hub.parts_of_hub(source, options)
    if irds.is_known(source):
        return irds.parts_of_name(source, options)
    near = difflib.get_close_matches(source, irds.names(), n=3)
    if irds.library() is None:
        remedy = f"names of data sets are those of ir_datasets: {irds.INSTALL}"
    elif near:
        remedy = f"did you mean {' or '.join(near)}?"
    else:
        remedy = f"{param('list_known')} shows the names that are known; one on the Hugging Face hub is hf:OWNER/NAME"
    raise InputError("no such file or folder, and no data set of this name", where=source, remedy=remedy)
