"""Text for the columns of a terminal: its width, folding at words, tables, the line of a progress.

Pure functions of strings, through which all goes that is printed for a person: control characters are escaped here.

A narrow terminal never costs a number: a table that does not fit puts long names on lines of their own, and columns
that do not fit into a further table below. Ids, paths and addresses are not broken, so that they can be copied whole.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from typing import TextIO

from drtools.escapes import escaped

WIDE = (
    "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
)
CLOSING = "、。，．：；？！）」』】》〉’”"
# what a line may end after: a run of spaces, one character of Chinese or Japanese with the marks that close it, or a
# word
PIECE = re.compile(rf"\s+|[{WIDE}][{CLOSING}]*|[^\s{WIDE}]+")
BARS = (40, 30, 20, 10)  # columns; in steps, so that a bar does not tremble with the digits beside it
LEAST_FIRST = 24  # columns that a table's first has room for before others move below it


def terminal_width(stream: TextIO) -> int | None:
    """Return the columns of the terminal that a stream is, None for a file or a pipe."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def width_of(text: str) -> int:
    """Return the number of columns that a text takes."""
    from rich.cells import cell_len  # not at the top: completion runs at every Tab and does not need rich

    return cell_len(text)


def wrapped(text: str, width: int | None, later: str = "") -> str:
    """Fold a line at words to `width` columns; lines after the first begin with `later`. A longer word stays whole.

    No width: on one line. Control characters are escaped.
    """
    text = escaped(text)
    if width is None or width_of(text) <= width:
        return text
    lines, between = [], ""
    line = text[: len(text) - len(text.lstrip())]
    for piece in PIECE.findall(text.lstrip()):
        if piece.isspace():
            between = piece
            continue
        if line.strip() and width_of(line + between + piece) > width:
            lines.append(line)
            line, between = later, ""
        line, between = line + between + piece, ""
    return "\n".join([*lines, line])


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Lay out rows of words in columns: the first to the left, the others to the right, two spaces between.

    In fewer columns than that takes, a first cell without room has a line of its own, and columns without room follow
    below. Control characters are escaped.
    """
    rows = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(width_of(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    if width is None or widths[0] + sum(2 + each for each in widths[1:]) <= width:
        return "\n".join(line for row in rows for line in _lines_of(row, range(1, len(widths)), widths, widths[0]))
    tables = []
    for group in _groups(widths, width - min(widths[0], LEAST_FIRST)):
        room = width - sum(2 + widths[i] for i in group)
        first = max((width_of(row[0]) for row in rows if width_of(row[0]) <= room), default=0)
        tables.append("\n".join(line for row in rows for line in _lines_of(row, group, widths, first)))
    return "\n\n".join(tables)


def _groups(widths: list[int], room: int) -> list[list[int]]:
    """Return the columns after the first in groups that fit, each of one at least."""
    groups: list[list[int]] = []
    taken = room
    for i, each in enumerate(widths[1:], start=1):
        if taken + 2 + each > room:
            groups.append([])
            taken = 0
        groups[-1].append(i)
        taken += 2 + each
    return groups or [[]]


def _lines_of(row: Sequence[str], columns: Sequence[int], widths: list[int], first: int) -> Iterator[str]:
    name = row[0]
    cells = "".join(" " * (2 + widths[i] - width_of(row[i])) + row[i] for i in columns if i < len(row))
    if width_of(name) > first:
        yield name
        name = ""
    if cells or name or not row[0]:
        yield (name + " " * (first - width_of(name)) + cells).rstrip()


def progress_line(
    width: int, description: str, count: str, share: float | None, details: Sequence[str], ascii_only: bool = False
) -> str:
    """Return one line of at most `width` columns.

    A description, a bar of `share` (0 to 1) if it is known, a count, details.

    The first details stay longest; a bar has room before the fourth of them. Of what stands there nothing is cut but
    the description.
    """
    room = max(0, width - width_of(count) - 1)
    if width_of(description) > room:
        while description and width_of(description) > room - 3:
            description = description[:-1]
        description += "..." if room >= 3 else ""
    left = room - width_of(description)
    fitting = []
    for number, detail in enumerate(details):
        needed = 2 + width_of(detail)
        if needed + (0 if share is None or number < 3 else BARS[-1] + 1) > left:
            break
        fitting.append(detail)
        left -= needed
    size = next((size for size in BARS if share is not None and size + 1 <= left), 0)
    done = round(size * min(share or 0.0, 1.0))
    full, empty = ("#", "-") if ascii_only else ("━", "─")
    return "  ".join([" ".join(filter(None, [description, full * done + empty * (size - done), count])), *fitting])
