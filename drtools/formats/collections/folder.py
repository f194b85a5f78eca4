"""Writing a collection as a folder in BEIR's form: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv, answers.jsonl."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import orjson

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.collections.parts import Judgement, Parts, Query
from drtools.formats.json_lines import json_line
from drtools.formats.lines import read_lines
from drtools.formats.trec import Qrels, write_qrels
from drtools.outputs.checksums import Span
from drtools.outputs.work import Work
from drtools.units import counted

CORPUS, QUERIES, QRELS, ANSWERS = "corpus.jsonl", "queries.jsonl", "qrels", "answers.jsonl"
DOCUMENTS_BETWEEN_SAVES = 100_000


class SeenIds:
    """Ids of documents as 8 bytes of a hash each, to find an id that occurs twice and ids that do not occur."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.hashes = array("Q", map(_hash, ids))

    def add(self, document_id: str) -> None:
        """Remember an id."""
        self.hashes.append(_hash(document_id))

    def close(self, path: Path) -> None:
        """Sort the ids; raise InputError for one that two lines of the corpus have."""
        import numpy as np

        self.sorted = np.frombuffer(self.hashes, np.uint64) if len(self.hashes) else np.empty(0, np.uint64)
        self.sorted.sort()
        equal = {int(each) for each in self.sorted[1:][self.sorted[1:] == self.sorted[:-1]]}
        numbers: dict[str, int] = {}
        for number, document_id in enumerate(_ids_of(path) if equal else (), 1):
            if _hash(document_id) not in equal:
                continue
            if document_id in numbers:
                raise InputError(
                    f"the document id {document_id!r} occurs twice, as document {numbers[document_id]:,} and "
                    f"{number:,} of the source",
                    remedy="remove one of the two, or give it another id",
                )
            numbers[document_id] = number

    def __contains__(self, document_id: str) -> bool:
        wanted = _hash(document_id)
        at = int(self.sorted.searchsorted(wanted)) if len(self.sorted) else 0
        return at < len(self.sorted) and int(self.sorted[at]) == wanted


def _hash(document_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8).digest(), "little")


def _ids_of(path: Path) -> Iterator[str]:
    return (orjson.loads(line)["_id"] for _, line in read_lines(path))


def write_collection(work: Work, parts: Parts) -> None:
    """Write the parts of a collection into the folder of `work`, and finish it.

    Documents are written as they come, in memory that does not depend on their number but for 8 bytes each; a stopped
    job continues after the last hundred thousand. Queries and judgements are held in memory. Raises InputError for a
    source without documents and queries, ids that occur twice, and a document with two grades for one query.
    """
    counts: Counter[str] = Counter()
    for caution in parts.cautions:
        reporting.notice(1, caution)
    documents = _write_documents(work, parts, counts) if parts.documents else None
    queries = _write_queries(work, parts)
    if not queries and not counts["documents"]:
        raise InputError("neither documents nor queries were found in the sources")
    judged = _write_judgements(work, parts, queries, documents)
    answered = _write_answers(work, parts)
    counts["queries"], counts["answers"] = len(queries), answered
    work.finish(kind="collection", counts=dict(counts), judgements=judged)
    words = [counted(counts["documents"], "document"), counted(len(queries), "query", "queries")]
    words += [f"{counted(count, 'judgement')} in {split}" for split, count in judged.items()]
    words += [f"answers of {counted(answered, 'query', 'queries')}"] * bool(answered)
    reporting.say(f"{work.target}: {', '.join(words)}")


def _write_documents(work: Work, parts: Parts, counts: Counter[str]) -> SeenIds:
    path = work.path / CORPUS
    counts.update(work.state.get("counts", {}))
    seen = SeenIds()
    if counts["documents"]:
        with open(path, "r+b") as written:
            written.truncate(work.state["bytes"])
        seen = SeenIds(_ids_of(path))
    found = chain.from_iterable(start() for start in parts.documents)
    with (
        open(path, "ab") as stream,
        reporting.progress("writing documents", parts.total, "documents", counts["documents"]) as progress,
    ):
        for _, document in islice(found, counts["documents"], None):
            stream.write(json_line({"_id": document.id, "title": document.title, "text": document.text}))
            seen.add(document.id)
            counts["documents"] += 1
            counts["empty"] += not (document.title or document.text.strip())
            progress.advance()
            if counts["documents"] % DOCUMENTS_BETWEEN_SAVES == 0:
                _save(work, stream, counts)
    seen.close(path)
    reporting.notice(
        counts["empty"], f"{counted(counts['empty'], 'document has', 'documents have')} neither title nor text"
    )
    return seen


def _save(work: Work, stream: BinaryIO, counts: Counter[str]) -> None:
    import os

    stream.flush()
    os.fsync(stream.fileno())
    work.save({CORPUS: Span(0, stream.tell())}, counts=dict(counts), bytes=stream.tell())


def _write_queries(work: Work, parts: Parts) -> dict[str, str]:
    known: dict[str, Query] = {}
    for query in chain.from_iterable(start() for start in parts.queries):
        before = known.setdefault(query.id, query)
        if before.text != query.text:
            raise InputError(
                f"the query {query.id!r} has another text at {before.where}",
                where=query.where,
                remedy="make a folder of each of the two",
            )
    if known:
        with open(work.path / QUERIES, "wb") as stream:
            stream.writelines(json_line({"_id": query.id, "text": query.text}) for query in known.values())
    return {query.id: query.text for query in known.values()}


def _write_judgements(work: Work, parts: Parts, queries: dict[str, str], documents: SeenIds | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    lost_queries: dict[str, str] = {}
    lost_documents: dict[str, str] = {}
    for split in dict.fromkeys(split for split, _ in parts.judgements):
        qrels: Qrels = {}
        for start in (start for name, start in parts.judgements if name == split):
            for found in start():
                _judge(qrels, found)
                if queries and found.query_id not in queries:
                    lost_queries.setdefault(found.query_id, found.where)
                if documents is not None and found.document_id not in documents:
                    lost_documents.setdefault(found.document_id, found.where)
        if not qrels:
            raise InputError(f"no judgements of the split {split} were found in the sources")
        (work.path / QRELS).mkdir(exist_ok=True)
        with open(work.path / QRELS / f"{split}.tsv", "wb") as stream:
            write_qrels(stream, qrels)
        counts[split] = sum(map(len, qrels.values()))
    _tell_lost(lost_queries, "judged query has no text", "judged queries have no text")
    _tell_lost(lost_documents, "judged document is not in the corpus", "judged documents are not in the corpus")
    return counts


def _judge(qrels: Qrels, found: Judgement) -> None:
    grade = qrels.setdefault(found.query_id, {}).setdefault(found.document_id, found.grade)
    if grade != found.grade:
        raise InputError(
            f"document {found.document_id!r} has grade {found.grade} for query {found.query_id!r}, but grade {grade} "
            "before",
            where=found.where,
            remedy="keep one of the two",
        )


def _tell_lost(lost: dict[str, str], one: str, many: str) -> None:
    example = next(iter(lost.items()), ("", ""))
    reporting.notice(
        len(lost), f"{counted(len(lost), one, many)} (for instance {example[0]!r}, {example[1]}); kept in the qrels"
    )


def _write_answers(work: Work, parts: Parts) -> int:
    known: dict[str, list[str]] = {}
    for found in chain.from_iterable(start() for start in parts.answers):
        merged = known.setdefault(found.query_id, [])
        merged += [answer for answer in dict.fromkeys(found.answers) if answer not in merged]
    if known:
        with open(work.path / ANSWERS, "wb") as stream:
            stream.writelines(json_line({"_id": each, "answers": answers}) for each, answers in known.items())
    return len(known)
