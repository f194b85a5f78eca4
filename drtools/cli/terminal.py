"""Lay out text for a terminal: its width, wrapped lines, tables, progress lines.

All text for users passes through these functions, which escape control characters.

No number is cut in a narrow terminal. In a table that does not fit, long names get their own lines, and columns without
room follow in another table below. Ids, paths and URLs are not broken, so that they can be copied.
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
# a line may end after one of these: spaces, a Chinese or Japanese character with closing marks, or a word
PIECE = re.compile(rf"\s+|[{WIDE}][{CLOSING}]*|[^\s{WIDE}]+")
BARS = (40, 30, 20, 10)  # columns; in steps, so that a bar does not change its width with each digit
LEAST_FIRST = 24  # columns for the first cell before other cells are moved below it


def terminal_width(stream: TextIO) -> int | None:
    """Return the width of a stream's terminal in columns, None for a file or a pipe."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def columns_of(text: str) -> int:
    """Return the width of a text on a terminal in columns."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wrapped(text: str, width: int | None, later: str = "") -> str:
    """Wrap a line at words to `width` columns. Later lines start with `later`. Longer words are not broken.

    Without a width, the text stays on one line. Control characters are escaped.
    """
    text = escaped(text)
    if width is None or columns_of(text) <= width:
        return text
    lines, between = [], ""
    line = text[: len(text) - len(text.lstrip())]
    for piece in PIECE.findall(text.lstrip()):
        if piece.isspace():
            between = piece
            continue
        if line.strip() and columns_of(line + between + piece) > width:
            lines.append(line)
            line, between = later, ""
        line, between = line + between + piece, ""
    return "\n".join([*lines, line])


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Align rows in columns: the first to the left, the others to the right, with two spaces between.

    If the width is too small, a long first cell gets its own line, and columns without room follow below. Control
    characters are escaped.
    """
    rows = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(columns_of(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    if width is None or widths[0] + sum(2 + each for each in widths[1:]) <= width:
        return "\n".join(line for row in rows for line in _lines_of(row, range(1, len(widths)), widths, widths[0]))
    tables = []
    for group in _groups(widths, width - min(widths[0], LEAST_FIRST)):
        room = width - sum(2 + widths[i] for i in group)
        first = max((columns_of(row[0]) for row in rows if columns_of(row[0]) <= room), default=0)
        tables.append("\n".join(line for row in rows for line in _lines_of(row, group, widths, first)))
    return "\n\n".join(tables)


def _groups(widths: list[int], room: int) -> list[list[int]]:
    """Return the columns after the first in groups that fit, with at least one in each."""
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
    cells = "".join(" " * (2 + widths[i] - columns_of(row[i])) + row[i] for i in columns if i < len(row))
    if columns_of(name) > first:
        yield name
        name = ""
    if cells or name or not row[0]:
        yield (name + " " * (first - columns_of(name)) + cells).rstrip()


def progress_line(
    width: int, description: str, count: str, share: float | None, details: Sequence[str], ascii_only: bool = False
) -> str:
    """Return a progress line of at most `width` columns.

    It has a description, a bar of `share` (0 to 1) if it is known, a count, and details. The last details are dropped
    first; the bar has priority over the fourth. Only the description can be shortened.
    """
    room = max(0, width - columns_of(count) - 1)
    if columns_of(description) > room:
        while description and columns_of(description) > room - 3:
            description = description[:-1]
        description += "..." if room >= 3 else ""
    left = room - columns_of(description)
    fitting = []
    for number, detail in enumerate(details):
        needed = 2 + columns_of(detail)
        if needed + (0 if share is None or number < 3 else BARS[-1] + 1) > left:
            break
        fitting.append(detail)
        left -= needed
    size = next((size for size in BARS if share is not None and size + 1 <= left), 0)
    done = round(size * min(share or 0.0, 1.0))
    full, empty = ("#", "-") if ascii_only else ("━", "─")
    return "  ".join([" ".join(filter(None, [description, full * done + empty * (size - done), count])), *fitting])
