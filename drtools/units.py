"""Rates, durations, sizes and counts in words."""

import re

SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])?B?")


def rate_as_words(rate: float) -> str:
    """Format a rate with three digits: `1,234`, `56.7`, `0.123`."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def number_as_words(value: object) -> str:
    """Format a number with a comma between thousands, or with four digits: `1,234`, `0.5679`."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def seconds_as_words(seconds: float) -> str:
    """Format a duration: `42 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def bytes_as_words(count: float) -> str:
    """Format a size in a suitable unit: `873 B`, `1.2 MB`, `4.0 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def bytes_of(words: str) -> int:
    """Parse a size into bytes: `5GB`, `1.5 TB`, `300M`, `1000`. Units are decimal.

    Raises ValueError for anything else.
    """
    found = SIZE.fullmatch(words.strip().upper())
    if not found:
        raise ValueError(f"{words!r} is not a size")
    return round(float(found[1]) * 1000.0 ** " KMGT".index(found[2] or " "))


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 query has`, `2,000 queries have`. Without `many` the plural ends in s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def joined(clauses: list[str]) -> str:
    """Join clauses with `;`, or with a space after a clause that ends in punctuation."""
    return " ".join(f"{clause}{'' if clause.endswith(tuple('?!.')) else ';'}" for clause in clauses).removesuffix(";")


def readable(name: str) -> str:
    """Return a system name, such as a file name, as text. Bytes that are not UTF-8 become escapes."""
    if not any("\ud800" <= sign <= "\udfff" for sign in name):
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
