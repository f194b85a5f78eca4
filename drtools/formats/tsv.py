"""Tab-separated files, whose columns are determined by the names in a header, or else by the first line.

A file with a header is read as CSV with tabs: quotes around a column are removed, doubled ones within become single,
and a quoted column may hold line breaks and tabs. DPR's passages and pandas' files are such files. A file without a
header is read literally, as quotes are part of the text in MS MARCO's files.
"""

import csv
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.lines import decode, shown
from drtools.units import counted

LONGEST_RECORD = 1000  # lines that one quoted column may go over
LONGEST_COLUMN = 1 << 30  # characters; the csv module's own limit is 131,072
QUOTED = re.compile(r'(?:(?<=\t)|^)"[^"]*(?:""[^"]*)*"(?=\t|$)')  # a whole column within quotes, tabs included
CLOSING = re.compile(r'(?<!")"(?:"")*(?=\t|$)')  # the end of a quoted column: a quote before a tab or the line's end
# names of columns in headers, in lower case with `_` for other signs; where a file has several the first counts
DOCUMENT_IDS = (
    *("_id", "id", "docid", "doc_id", "document_id", "corpus_id", "pid", "passage_id", "psg_id", "did", "docno"),
    *("doc_no", "paragraph_id", "sentence_id", "uid", "documentid", "passageid", "paragraphid", "sentenceid"),
    *("corpusid", "page_id", "pageid", "article_id", "articleid", "wikipedia_id", "wiki_id", "chunk_id", "text_id"),
    *("doc_number", "document_number"),
)
DOCUMENT_TEXTS = (
    *("text", "contents", "content", "body", "passage", "document", "doc", "paragraph", "passage_text", "doc_text"),
    *("document_text", "sentence", "abstract"),
)
QUERY_IDS = (
    *("_id", "id", "qid", "query_id", "queryid", "q_id", "question_id", "topic_id", "topic", "uid", "questionid"),
    *("topicid", "query_number", "topic_number"),
)
QUERY_TEXTS = ("text", "query", "question", "query_text", "question_text", "raw_query", "sentence", "contents")
# ids in a header that names a text too; alone they are words that a line may begin with
ANY_IDS = ("identifier", "key", "idx", "index", "guid", "uuid", "no", "number", "num", "nr", "row_id", "rowid")
TITLES = (
    *("title", "heading", "headline", "doc_title", "document_title", "passage_title", "page_title", "article_title"),
    *("wikipedia_title", "wiki_title", "name"),
)


def header_places(cells: list[str], names: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return the column of a header for each field in `names` that it has."""
    lowered = header_words(cells)
    places: dict[str, int] = {}
    for what, known in names.items():
        found = [lowered.index(name) for name in known if name in lowered]
        free = [place for place in found if place not in places.values()]
        if free:
            places[what] = free[0]
    return places


def header_words(cells: list[str]) -> list[str]:
    """Return names of columns as they are compared: in lower case, `_` for signs, without quotes and a `#` before."""
    bare = [cell.strip().strip('"').lstrip("#").strip().lower() for cell in cells]
    return ["".join(sign if sign.isalnum() else "_" for sign in cell) for cell in bare]


class ColumnLayout(NamedTuple):
    """What the columns of a file may hold: their `names` in a header, and by their number the `forms` without one.

    A header that names an `id` and a `text` is one.
    """

    names: Mapping[str, tuple[str, ...]]
    forms: Mapping[int, tuple[str, ...]]
    expected: str


class Table:
    """A file of columns. `places` has the column of each field; `id` and `text` are always there.

    `lines` are all lines of a file, empty ones too, which may be part of a text. Raises InputError with file:line for a
    first line whose columns are not known. Columns that are not read are noted.
    """

    def __init__(self, path: str | Path, lines: Iterator[tuple[int, bytes]], layout: ColumnLayout) -> None:
        self.path = path
        self.lines: Iterator[tuple[int, str]] = ((number, decode(line, path, number)) for number, line in lines)
        first = next((number, text) for number, text in self.lines if text and not text.isspace())
        self._settle(*first, layout)
        if not self.has_header:
            self.lines = itertools.chain([first], self.lines)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line number, columns) of each row, once. InputError with file:line for a row with other columns."""
        if self.has_header:
            yield from self._quoted_rows()
            return
        quotes, width = _Quotes(self.path), self.width
        for number, text in self.lines:
            if not text or text.isspace():
                continue
            cells = text.split("\t")
            if len(cells) != width:
                raise self._other_columns(number, cells)
            if not quotes.are_text and '"' in text:
                quotes.look(number, cells)
            yield number, cells

    def _settle(self, number: int, text: str, layout: ColumnLayout) -> None:
        cells = text.split("\t")
        places = header_places(cells, layout.names)
        self.first, self.width = number, len(cells)
        self.has_header = "id" in places and "text" in places
        if not self.has_header and _is_header(cells, places, layout):
            lacking = "text" if "id" in places else "id"
            raise InputError(
                f"found a header ({', '.join(cells)}) without a known name for the {lacking}",
                where=f"{shown(self.path)}:{number}",
                remedy=f"call that column `{lacking}`, or put a header before this line if it is data",
            )
        if not self.has_header and len(cells) not in layout.forms:
            raise InputError(
                counted(len(cells), "column", "columns"), where=f"{shown(self.path)}:{number}", expected=layout.expected
            )
        if self.has_header:
            self._check_used(number, cells, places)
        self.places = places if self.has_header else {name: i for i, name in enumerate(layout.forms[len(cells)])}

    def _check_used(self, number: int, cells: list[str], places: dict[str, int]) -> None:
        """Raise InputError for two columns with the same used name; report the columns that are not used."""
        words = header_words(cells)
        for place in places.values():
            if words.count(words[place]) > 1:
                raise InputError(
                    f"found two columns called {cells[place].strip()!r}",
                    where=f"{shown(self.path)}:{number}",
                    remedy="join them, or rename one of them",
                )
        unused = [cell.strip() for place, cell in enumerate(cells) if place not in places.values() and cell.strip()]
        reporting.notice(
            len(unused),
            f"{shown(self.path)}: {counted(len(unused), 'column is', 'columns are')} not read ({', '.join(unused)}); "
            f"those that are: {', '.join(f'{what} from {cells[place].strip()!r}' for what, place in places.items())}",
        )

    def _other_columns(self, number: int, cells: list[str]) -> InputError:
        return InputError(
            f"{counted(len(cells), 'column', 'columns')}, but line {self.first} has {self.width}",
            where=f"{shown(self.path)}:{number}",
            expected="the same columns in each line, and no tab or line break within a text",
        )

    def _quoted_rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows of a file with a header, each with the number of its first line."""
        quotes, line = _Quotes(self.path), next(self.lines, None)
        while line is not None:
            (number, text), line = line, None
            cells = text.split("\t")
            if '"' in text:
                cells, line = self._without_quotes(number, text, quotes)
            if len(cells) == self.width:
                yield number, cells
            elif text and not text.isspace():
                raise self._other_columns(number, cells)
            line = line or next(self.lines, None)

    def _without_quotes(self, number: int, text: str, quotes: "_Quotes") -> tuple[list[str], tuple[int, str] | None]:
        """Return the columns of a record that begins with a line, and the line after it if that was read."""
        cells = text.split("\t")
        others = QUOTED.sub("", text).split("\t")  # the columns, those empty that are whole within quotes
        following = next(self.lines, None) if any(map(is_open, others)) else None
        ahead = iter([following] if following else [])
        if len(others) != len(cells) or (
            any(map(is_open, others)) and not self._is_whole_row(number, cells, following, quotes)
        ):
            cells = self._record(number, text, itertools.chain(ahead, self.lines))
        else:
            if not quotes.are_text:
                quotes.look(number, cells)
            cells = [unquoted(cell) for cell in cells]
        return cells, next(ahead, None)

    def _is_whole_row(
        self, number: int, cells: list[str], following: tuple[int, str] | None, quotes: "_Quotes"
    ) -> bool:
        """Return whether a quote that begins a column is text: the line and the next are rows as they stand."""
        if len(cells) != self.width or (following and following[1].count("\t") != self.width - 1):
            return False
        if following and not quotes.are_text and CLOSING.search(following[1]):
            raise InputError(
                f"a quote begins a column, and line {following[0]} may be a row of its own or the end of that column",
                where=f"{shown(self.path)}:{number}",
                remedy="double the quotes that are part of the text, or write JSON lines",
            )
        return True

    def _record(self, number: int, text: str, later: Iterator[tuple[int, str]]) -> list[str]:
        """Return the columns of a record that begins with a line and continues while a quoted column is open."""
        ended = False

        def lines() -> Iterator[str]:
            nonlocal ended
            yield f"{text}\n"
            for _, more in itertools.islice(later, LONGEST_RECORD):
                yield f"{more}\n"
            ended = True

        csv.field_size_limit(LONGEST_COLUMN)
        try:
            cells = next(csv.reader(lines(), delimiter="\t"))
        except csv.Error as error:
            raise InputError(
                f"not CSV with tabs ({error})", where=f"{shown(self.path)}:{number}", remedy="write JSON lines"
            ) from None
        if ended:
            raise InputError(
                (
                    "a quote begins a column, and no later line ends it; end it, or, if it is part of the text, double "
                    "it and put quotes around the column"
                ),
                where=f"{shown(self.path)}:{number}",
            )
        return cells


def _is_header(cells: list[str], places: dict[str, int], layout: ColumnLayout) -> bool:
    """Return whether a line that lacks the name of the id or of the text is a header nevertheless, and no data.

    It is if it begins with the name of an id, and without a digit in it, which most ids have, if it has the name of a
    text or several known names.
    """
    words = header_words(cells)
    if places.get("id") == 0 and words[0] not in ANY_IDS:
        return True
    known = {name for names in layout.names.values() for name in names}
    has_text = any(word in layout.names["text"] for word in words)
    return (has_text or len(known & {*words}) > 1) and not any(map(str.isdigit, "".join(cells)))


class _Quotes:
    """What quotes are in rows that are read as they stand: text, as soon as one stands where CSV has none.

    Until then a quote that opens the last column and one that ends a column of a later line may be a text with a line
    break in it, which would become two rows; it is refused.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.are_text = False
        self.opened = 0  # line

    def look(self, number: int, cells: list[str]) -> None:
        """Look at the columns of a line with quotes."""
        for cell in cells:
            if '"' not in cell or unquoted(cell) != cell:
                continue
            closes = not is_open(cell) and cell.count('"') % 2 and CLOSING.search(cell)
            if self.opened and closes and number - self.opened < LONGEST_RECORD:
                raise InputError(
                    f"ends a quote that line {self.opened} begins, so that a text seems to span both lines",
                    where=f"{shown(self.path)}:{number}",
                    expected="a row on each line",
                    remedy="remove line breaks from the texts, or write JSON lines",
                )
            if self.opened or not is_open(cell) or cell is not cells[-1]:
                self.are_text = True
                return
            self.opened = number


def is_open(cell: str) -> bool:
    """Return whether a column begins with a quote that nothing in it ends."""
    return cell.startswith('"') and cell.count('"') % 2 == 1


def unquoted(column: str) -> str:
    """Return the value of a CSV column: without quotes around it, and with doubled quotes made single.

    Others are as they are.
    """
    inner = column[1:-1].replace('""', "")
    return (
        column[1:-1].replace('""', '"')
        if len(column) > 1 and column[0] == column[-1] == '"' and '"' not in inner
        else column
    )
