"""Display of hits: rank, score, title, and the passage of the text with the most query words."""

import os
import re
import sys

from drtools.cli.terminal import terminal_width, wrapped
from drtools.formats.corpus_store import open_store

SNIPPET_CHARACTERS = 240
WIDEST = 100  # columns of a text that is easily read


def snippet(text: str, words: str, longest: int = SNIPPET_CHARACTERS) -> str:
    """Return the first passage of a text, cut at word boundaries, with the most different query words."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    wanted = {word for word in re.findall(r"\w+", words.lower()) if len(word) > 2 or not word.isascii()}
    places = [(found.start(), found[0]) for found in re.finditer(r"\w+", text.lower()) if found[0] in wanted] or [
        (0, "")
    ]
    held = [len({word for place, word in places if start <= place < start + longest - 20}) for start, _ in places]
    start = places[held.index(max(held))][0]
    start = max(0, text.rfind(" ", 0, max(0, start - 20)) + 1)
    stop = len(text) if start + longest >= len(text) else max(text.rfind(" ", start, start + longest), start + 1)
    if stop == start + 1:  # one word without a border, as in Chinese
        stop = start + longest
    return ("… " if start else "") + text[start:stop] + (" …" if stop < len(text) else "")


def show_hits(words: str, hits: dict[str, float], corpus: str | None) -> None:
    """Print hits to standard output; without a corpus only ids and scores."""
    store = open_store(corpus) if corpus else None
    if not hits:
        print("nothing was found")
    terminal = terminal_width(sys.stdout)
    width = min(terminal or WIDEST, WIDEST)
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else ("", "")
    for place, (document_id, score) in enumerate(hits.items(), start=1):
        document = store.get(document_id) if store else None
        before, title = f"{place:>3}  {score:8.4f}  ", (document.title if document else "") or document_id
        name = f"  [{document_id}]" if title != document_id else ""
        head = wrapped(" " * len(before) + title + name, width if terminal else None, later=" " * 15)[len(before) :]
        titled = head[: len(head) - len(name.strip())].rstrip()
        print(before + bold + titled + plain + head[len(titled) :])
        if document:
            print(wrapped(" " * 15 + snippet(document.text, words), width, later=" " * 15))
