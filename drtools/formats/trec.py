"""Judgements (BEIR TSV, TREC 4 columns) and runs (TREC 6 columns).

The order of a run is decided only here, so that every tool sees the same ranks. It is trec_eval's: by score as a 32-bit
float, descending, then by document id, descending; the rank column is ignored. `read_run(rank_order=True)` uses the
rank column instead, as MS MARCO's script does.

Columns are separated only by ASCII white space, as in trec_eval; ids are strings and are not changed.
"""

import math
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator
from gzip import BadGzipFile
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from drtools.errors import InputError
from drtools.formats.lines import LONGEST_LINE, decode, local, open_bytes, read_lines, shown
from drtools.formats.other_tables import QRELS_NAMES, other_judgements, read_other_run
from drtools.formats.signatures import NAMED_COLUMNS, RUN_COLUMNS
from drtools.formats.trec_blocks import split_block
from drtools.formats.tsv import header_places
from drtools.units import counted

Run = dict[str, dict[str, float]]  # query id -> {document id: score}, in ranked order, best first
Qrels = dict[str, dict[str, int]]  # query id -> {document id: grade}

BEIR_HEADER = ["query-id", "corpus-id", "score"]
BLOCK_BYTES = 1 << 18  # measured: its columns stay in the processor's cache; 1 << 23 takes 1.6 times as long
HIGHEST_GRADE = 10_000  # trec_eval counts every grade up to the highest, for each query
WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
GRADE = re.compile(r"([-+]?[0-9]{1,18})(\.0*)?")  # pandas writes 1.0 for 1
COLUMN = re.compile(r"[^ \t\r\v\f]+")
TAB_SEPARATED = re.compile(r"\S([^\t\r\n]*\S)?")  # an id that a TSV column can hold


def read_qrels(path: str | Path) -> Qrels:
    """Read judgements.

    BEIR's three columns, with or without their header, or TREC's four, told apart by the first line, the same with
    commas, or JSON {query: {document: grade}}.

    A judgement may be repeated. Raises InputError with file:line for a bad line, two grades of one document for a
    query, and a file without judgements.
    """
    path = local(str(path))
    qrels: Qrels = {}
    for number, query, document, grade in _judgements(path):
        known = qrels.setdefault(query, {}).setdefault(document, grade)
        if known != grade:
            before = next(line for line, *pair, _ in _judgements(path) if pair == [query, document])
            raise InputError(
                f"document {document} has grade {grade} for query {query}, but grade {known} in line {before}",
                where=f"{shown(path)}:{number}",
                remedy="keep one of the two",
            )
    if not qrels:
        raise InputError(
            "found no judgement", where=f"{shown(path)}:1", expected="lines `query-id<TAB>corpus-id<TAB>score`"
        )
    return qrels


def read_run(path: str | Path, rank_order: bool = False) -> Run:
    """Read a TREC run; documents are in the order described above, best first, and queries in the file's order.

    Runs of other programs (JSON, CSV, MS MARCO's three columns) are read too; `formats/other_tables.py` tells them
    apart. The lines of a query need not be together. A run without a line is an empty dict. Raises InputError with
    file:line for a line that has not six columns, a score that is not a number, a document twice in a query and, with
    `rank_order`, a rank that is not a whole number or is taken already.
    """
    path = local(str(path))
    run = _read_run_by_block(path, rank_order)
    if run is not None:
        return run
    others = read_other_run(path, rank_order)
    if others is None:
        return _read_run_by_line(path, rank_order)
    return {query: rank(scores) for query, scores in others.items()}


def rank(scores: dict[str, float]) -> dict[str, float]:
    """Sort one query's {document id: score} by score as a 32-bit float, then by id, both descending."""
    singles = array("f", scores.values())  # as trec_eval keeps them: what differs only beyond 32 bits is tied
    return {
        document: score
        for _, document, score in sorted(zip(singles, scores.keys(), scores.values(), strict=True), reverse=True)
    }


def write_run(stream: BinaryIO, run_items: Iterable[tuple[str, dict[str, float]]], tag: str) -> None:
    """Write (query id, {document id: score}) items in the given order, with ranks from 1.

    Scores read back as the same floats. Raises InputError for an id with white space, which six columns cannot hold.
    """
    for query, hits in run_items:
        names = [query, tag, *hits]
        if len(" ".join(names).split()) != len(names):
            name = next(name for name in names if len(name.split()) != 1)
            raise InputError(
                f"query {query!r}: {name!r} is empty or has white space, which a TREC run cannot hold",
                remedy="rename it",
            )
        lines = (
            f"{query} Q0 {document} {position} {float(score)!r} {tag}\n"
            for position, (document, score) in enumerate(hits.items(), start=1)
        )
        stream.write("".join(lines).encode())


def write_qrels(stream: BinaryIO, qrels: Qrels) -> None:
    """Write judgements as BEIR TSV with its header; raises InputError for an id that a TSV column cannot hold."""
    stream.write(("\t".join(BEIR_HEADER) + "\n").encode())
    for query, grades in qrels.items():
        for document, grade in grades.items():
            if not (TAB_SEPARATED.fullmatch(query) and TAB_SEPARATED.fullmatch(document)):
                raise InputError(
                    f"query {query!r}, document {document!r}: an id is empty, has a tab or outer white space",
                    remedy="rename it",
                )
            stream.write(f"{query}\t{document}\t{grade}\n".encode())


def _judgements(path: str) -> Iterator[tuple[int, str, str, int]]:
    """Yield (line number, query id, document id, grade)."""
    others = other_judgements(path)
    if others is not None:
        yield from ((number, query, document, _grade(text, path, number)) for number, query, document, text in others)
        return
    split, width, wanted, is_named = None, 0, itemgetter(0, -2, -1), False
    documents: set[str] = set()  # two different ones, once there are so many
    grades: dict[str, int] = {}  # as written: they are few
    for number, line in read_lines(path, written=NAMED_COLUMNS):
        text = decode(line, path, number)
        if split is None:
            split = _split_tabs if len(_split_tabs(text)) == 3 or _header(_split_tabs(text)) else COLUMN.findall
            width = len(split(text))
            if header := _header(split(text)):
                wanted, is_named = itemgetter(*header.values()), True
                continue
            _check_first_judgement(text, width, path, number)
        columns = split(text)
        query, document, written = wanted(columns) if len(columns) == width else ("", "", "")
        if not (query and document and written) or (width == 3 and _lacks_one(text)):
            found = (
                "4 columns, one of them empty"
                if len(columns) == width == 3 and _lacks_one(text)
                else counted(len(columns), "column", "columns")
            )
            raise InputError(
                f"found {found}, expected {width} non-empty ones as in the first line; is this a file of judgements?",
                where=f"{shown(path)}:{number}",
            )
        if written not in grades:
            grades[written] = _grade(written, path, number)
        if len(documents) < 2:
            documents.add(document)
        yield number, query, document, grades[written]
    if width == 3 and not is_named and number > 1 and documents in ({"0"}, {"Q0"}):
        raise InputError(
            (
                f"found three columns with {documents.pop()} as the document in every line, which is TREC's second "
                "column"
            ),
            where=f"{shown(path)}:1",
            expected="four columns, the document in the third",
            remedy="write the file again",
        )


def _check_first_judgement(text: str, width: int, path: str, number: int) -> None:
    if width not in (3, 4):
        forms = "3 (query-id, corpus-id, score) or 4 (query, 0, document, grade)"
        raise InputError(
            f"found {counted(width, 'column', 'columns')}, expected {forms}; is this a file of judgements?",
            where=f"{shown(path)}:{number}",
        )
    if not any(sign.isdigit() for sign in text):
        raise InputError(
            f"found {text[:60]!r}",
            where=f"{shown(path)}:{number}",
            expected="a judgement or the header query-id, corpus-id, score",
            remedy="write that header, or remove the line",
        )


def _header(columns: list[str]) -> dict[str, int] | None:
    """Return which columns of a header hold query, document and grade; None for a line that is not a header."""
    places = header_places(columns, QRELS_NAMES)
    return places if len(places) == len(QRELS_NAMES) else None


def _lacks_one(text: str) -> bool:
    """Return whether a line of three words has a fourth column, between its tabs, that is empty."""
    return text.count("\t") == 3 and "" in _split_tabs(text)[1:-1]


def _grade(text: str, path: str, number: int) -> int:
    found = GRADE.fullmatch(text)
    if not found:
        raise InputError(
            f"found {text[:60]!r}",
            where=f"{shown(path)}:{number}",
            expected="a grade, a whole number",
            remedy="correct the line",
        )
    grade = int(found[1])
    if grade > HIGHEST_GRADE:
        raise InputError(
            f"found grade {text}, expected at most {HIGHEST_GRADE:,}; is the last column the grade?",
            where=f"{shown(path)}:{number}",
        )
    return grade


def looks_like_judgements(line: str) -> bool:
    """Return whether the first line of a file is that of judgements: a header, or columns that end in a grade."""
    if _header(_split_tabs(line)) or _header(line.split()):
        return True
    columns = line.split()
    tabs = line.count("\t")  # none, or one between each two columns: else `q1<TAB>windows 10` would be judgements
    return len(columns) in (3, 4) and tabs in (0, len(columns) - 1) and bool(GRADE.fullmatch(columns[-1]))


def _split_tabs(text: str) -> list[str]:
    return [column.strip() for column in text.split("\t")]


def _whole(text: str, what: str, path: str, number: int) -> int:
    if not WHOLE.fullmatch(text):
        raise InputError(
            f"found {text[:60]!r}",
            where=f"{shown(path)}:{number}",
            expected=f"{what}, a whole number",
            remedy="correct the line",
        )
    return int(text)


def _hits(path: str) -> Iterator[tuple[int, str, str, str, float]]:
    """Yield (line number, query id, document id, rank as text, score)."""
    for number, line in read_lines(path, written=RUN_COLUMNS):
        columns = COLUMN.findall(decode(line, path, number))
        if len(columns) != 6:
            raise InputError(
                (
                    f"found {counted(len(columns), 'column', 'columns')}, expected 6 (query Q0 document rank score "
                    "tag); is this a run, and is it whole?"
                ),
                where=f"{shown(path)}:{number}",
            )
        query, _, document, position, text, _ = columns
        try:
            score = float(text)
        except ValueError:
            score = float("nan")
        if math.isnan(score):
            raise InputError(
                f"found {text!r}",
                where=f"{shown(path)}:{number}",
                expected="a score, a number",
                remedy="correct the line, or write the run again",
            )
        yield number, query, document, position, score


def _read_run_by_line(path: str, rank_order: bool) -> Run:
    """Read a run line by line with any spacing; errors name the line."""
    run: Run = {}
    places: dict[str, dict[int, str]] = {}  # query id -> {rank: document id}
    for number, query, document, position, score in _hits(path):
        scores = run.setdefault(query, {})
        if document in scores:
            before = next(line for line, *pair, _, _ in _hits(path) if pair == [query, document])
            raise InputError(
                (
                    f"document {document} is already listed for query {query} in line {before}; a run lists a document "
                    "once for each query"
                ),
                where=f"{shown(path)}:{number}",
            )
        scores[document] = score
        if rank_order:
            place = _whole(position, "a rank", path, number)
            holder = places.setdefault(query, {}).setdefault(place, document)
            if holder != document:
                raise InputError(
                    f"rank {place} of query {query} already has document {holder}",
                    where=f"{shown(path)}:{number}",
                    remedy="use the scores instead, or write the ranks again",
                )
    if rank_order:
        return {
            query: {document: run[query][document] for _, document in sorted(places[query].items())} for query in run
        }
    return {query: rank(scores) for query, scores in run.items()}


def _read_run_by_block(path: str, rank_order: bool) -> Run | None:
    """Read a run like `_read_run_by_line`, several times faster, or return None for a file with anything unusual."""
    import numpy as np

    run: Run = {}
    last: dict[str, float] = {}  # query id -> sort key of the last document read; keys fall in a run that is in order
    unordered: set[str] = set()
    try:
        with open_bytes(path) as stream:
            while block := stream.read(BLOCK_BYTES) + stream.readline(LONGEST_LINE + 1):
                if len(block) > LONGEST_LINE:  # reading by line names it
                    return None
                split = split_block(block, [2, 3, 4] if rank_order else [2, 4])
                if split is None:
                    return None
                spans, (documents, *ranks, written) = split
                scores = list(map(float, written))
                keys = (
                    -np.array(list(map(int, ranks[0]))) if rank_order else np.frombuffer(array("f", scores), np.float32)
                )
                falls = keys[1:] < keys[:-1]
                for query, start, stop in spans:
                    hits = run.setdefault(query, {})
                    count = len(hits) + stop - start
                    hits.update(zip(documents[start:stop], scores[start:stop], strict=True))
                    if len(hits) != count:
                        return None
                    if not (keys[start] < last.get(query, math.inf) and falls[start : stop - 1].all()):
                        unordered.add(query)
                    last[query] = keys[stop - 1]
                if math.isnan(sum(scores)) or (rank_order and unordered):
                    return None
    except (EOFError, BadGzipFile, zlib.error, ValueError):  # ValueError: a number, or UTF-8, that cannot be read
        return None
    for query in unordered:
        run[query] = rank(run[query])
    return run
