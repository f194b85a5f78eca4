"""Number and size of the n-tuples that examples make for sentence-transformers, before they are written."""

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drtools.errors import InputError, param
from drtools.formats.corpora import document_text
from drtools.formats.toolkits import Candidate, RecordLayout, Row, tuples_of
from drtools.units import counted

MOST_NEGATIVES = 10  # [ours] in a row, if no number is given
MOST_ROWS = 1_000_000  # [ours] in a file, where no other limit was given
BYTES_A_FIELD = 18  # of JSON around a text: its name, quotes, colon, comma


class TuplePlan(NamedTuple):
    """What is to be written: `layout` with the negatives of a row, the examples and rows, and about how many bytes.

    `short` examples have too few negatives for a row and repeat them; `cut` have more rows than a query may have.
    """

    layout: RecordLayout
    examples: int
    rows: int
    size: int
    short: int
    cut: int

    def words(self, size_as_words: str) -> str:
        """Return the count in words."""
        rows = f"{counted(self.examples, 'example')} make {counted(self.rows, 'row')}"
        if not self.layout.negatives:
            return f"{rows} of a positive, about {size_as_words}"
        negatives = "a negative" if self.layout.size == 1 else f"{self.layout.size} negatives"
        return f"{rows} of a positive and {negatives}, about {size_as_words}"


def plan(rows: Iterable[Row], layout: RecordLayout, negatives: int | None = None) -> TuplePlan:
    """Choose how many negatives a row has, and count the rows that examples make.

    By default a row has as many negatives as every example with any has, 10 at most, so that none is repeated.
    """
    positives, hard, each = array("q"), array("q"), array("d")
    for row in rows:
        positives.append(len(row.positives))
        hard.append(len(row.negatives))
        each.append(len(row.query.encode()) + BYTES_A_FIELD + _bytes_each(row.positives, layout.title_separator))
        each.append(_bytes_each(row.negatives, layout.title_separator))
    fewest = min((count for count in hard if count), default=MOST_NEGATIVES)
    layout = layout._replace(size=negatives or min(fewest, MOST_NEGATIVES))
    counts = list(zip(positives, hard, strict=True))
    written = [tuples_of(*both, layout) for both in counts]
    uncut = [tuples_of(*both, layout._replace(most_rows=None)) for both in counts]
    texts = layout.size if layout.negatives else 0
    return TuplePlan(
        layout,
        sum(count > 0 for count in written),
        sum(written),
        round(sum(count * (each[2 * i] + texts * each[2 * i + 1]) for i, count in enumerate(written))),
        sum(0 < count < layout.size for count in hard) if layout.negatives else 0,
        sum(count < whole for count, whole in zip(written, uncut, strict=True)),
    )


def check_rows(rows: int, most: int | None, words: str) -> None:
    """Raise InputError for more rows than a file may have; `words` describe what would be written."""
    limit = MOST_ROWS if most is None else most
    if rows > limit:
        raise InputError(
            words,
            expected=f"at most {counted(limit, 'row')}",
            remedy=(
                f"pass {param('rows_per_query')} to take fewer of each query, more {param('negatives')} for "
                f"fewer and longer rows, or a larger {param('max_rows')}"
            ),
        )


def _bytes_each(candidates: Sequence[Candidate], separator: str) -> float:
    total = sum(len(document_text(item.title, item.text, separator).encode()) for item in candidates)
    return total / max(1, len(candidates)) + BYTES_A_FIELD
