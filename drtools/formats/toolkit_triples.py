"""Triples of texts in columns with tabs between them: MS MARCO's triples.train, and RocketQA's with titles."""

from collections.abc import Iterator
from pathlib import Path

from drtools.errors import InputError
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.toolkits import Candidate, Row

NO_TITLE = ("", "-", "null")  # what stands in RocketQA's and DuReader's columns where there is no title


def read_triples(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of `query positive negative`, or of RocketQA's `query title positive title negative 0`.

    Raises InputError with file:line for other columns, and for a text that is empty.
    """
    width = 0
    for number, line in read_lines(path):
        where, cells = f"{shown(path)}:{number}", decode(line, path, number).split("\t")
        width = width or len(cells)
        if len(cells) != width or width not in (3, 6):
            raise InputError(
                f"{len(cells)} columns",
                where=where,
                expected="query, positive and negative, or query, title, positive, title, negative and a label, with "
                "tabs between them",
            )
        query, *documents = (
            (cells[0], ("", cells[1]), ("", cells[2]))
            if width == 3
            else (cells[0], (cells[1], cells[2]), (cells[3], cells[4]))
        )
        if not query.strip() or not all(text.strip() for _, text in documents):
            raise InputError("a text is empty", where=where, remedy="leave the line out")
        positive, negative = (
            Candidate(None, "" if title.strip() in NO_TITLE else title, text) for title, text in documents
        )
        yield number, Row(None, query, [positive], [negative])
