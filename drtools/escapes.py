"""Escape control characters in texts, ids and file names that are shown to users.

Terminals execute some of them: they move the cursor, change the title, or copy text to the clipboard.
"""

import re

# Unicode's control characters except tab and line feed; lone surrogates, which represent bytes of file names that are
# not UTF-8; characters that change the direction of the following text
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""Return a text with its control characters as escapes: `\x1b`, `\u202e`."""
    return UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else _four_digits(found), text)


def escaped_json(line: str) -> str:
    r"""Return a line of JSON with its control characters as JSON's own escapes: `\u009b`."""
    return UNSAFE.sub(_four_digits, line)


def escaped_line(text: str) -> str:
    """Return a text as one line: escaped, its tabs and line breaks too."""
    return escaped(text).replace("\t", r"\t").replace("\n", r"\n")


def _four_digits(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
