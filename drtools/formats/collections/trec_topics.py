"""TREC topics: the classic <top> form with open tags, and XML with a <topic> for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from drtools.errors import InputError, param
from drtools.formats.collections.parts import Query
from drtools.formats.collections.trec_documents import without_tags
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import decode, open_bytes, read_lines, shown

# what the fields are called: in classic topics, in those of the web and microblog tracks, in TREC-COVID's
FIELDS = {
    "title": ("title", "query"),
    "description": ("desc", "description", "question"),
    "narrative": ("narr", "narrative"),
}
NUMBERS = ("num", "number", "id", "identifier")
KNOWN = {name for names in FIELDS.values() for name in names} | {*NUMBERS}
CLASSIC_TAG = re.compile(r"<(/?)([A-Za-z-]+)>")
LABEL = re.compile(r"\s*(?:Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)


def read_classic_topics(path: str | Path, field: str = "title") -> Iterator[Query]:
    """Yield the query of each <top>: its number and the text of one field.

    Tags need not be closed, and the labels of the first tracks (`Number:`, `Topic:`, `Description:`) are left out. A
    number loses its leading zeros, which the judgements lack. Raises InputError with file:line.
    """
    begun, name, held = 0, "", dict[str, str]()
    for number, line in read_lines(path):
        text, at = decode(line, path, number) + " ", 0
        for tag in CLASSIC_TAG.finditer(text):
            if begun and name:
                held[name] = held.get(name, "") + text[at : tag.start()]
            at, known = tag.end(), tag[2].lower()
            if known == "top":
                if begun:
                    yield _topic(held, field, path, begun)
                begun, name, held = (0 if tag[1] else number), "", {}
            elif known in KNOWN and not tag[1]:
                if not begun:
                    raise InputError(
                        f"<{tag[2]}> was found outside of a topic",
                        where=f"{shown(path)}:{number}",
                        expected="<top> before it",
                    )
                name = known
        if begun and name:
            held[name] = held.get(name, "") + text[at:]
    if begun:
        yield _topic(held, field, path, begun)


def _topic(held: dict[str, str], field: str, path: str | Path, number: int) -> Query:
    """Return the topic that begins in a line."""
    place = f"{shown(path)}:{number}"
    text = next((held[name] for name in FIELDS[field] if without_tags(LABEL.sub("", held.get(name, ""), 1))), None)
    named = next((held[name] for name in NUMBERS if held.get(name, "").strip()), None)
    if named is None:
        raise InputError(f"a topic has no number (found {_names(held)})", where=place, remedy="give each topic one")
    if text is None:
        raise InputError(
            f"a topic has no {field} (found {_names(held)})",
            where=place,
            remedy=f"name another field with {param('topic_field')}",
        )
    query_id = LABEL.sub("", named, 1).strip()
    query_id = str(int(query_id)) if query_id.isdecimal() else query_id
    return Query(place, checked_id(query_id, path, number), without_tags(LABEL.sub("", text, 1)))


def _names(held: dict[str, str]) -> str:
    return ", ".join(name for name, text in held.items() if text.strip()) or "nothing"


class _Topics:
    """A parser of XML topics; `found` are (line, {field: text}) of those that are closed."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.found: list[tuple[int, dict[str, str]]] = []
        self.begun, self.name, self.depth, self.held = 0, "", 0, dict[str, str]()
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.data
        self.parser.StartDoctypeDeclHandler = self.refuse

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin a topic or one of its fields."""
        known = tag.lower()
        if known in ("topic", "top"):
            self.begun, self.held, self.name = self.parser.CurrentLineNumber, {}, "title"
            for key in NUMBERS:
                if key in attributes:
                    self.held[key] = attributes[key]
        elif self.begun and known in KNOWN:
            self.name = known
            self.held[known] = ""

    def end(self, tag: str) -> None:
        """End a topic or one of its fields."""
        if tag.lower() in ("topic", "top"):
            self.found.append((self.begun, self.held))
            self.begun, self.name = 0, ""
        elif self.begun and tag.lower() == self.name:
            self.name = ""

    def data(self, text: str) -> None:
        """Take text."""
        if self.begun and self.name:
            self.held[self.name] = self.held.get(self.name, "") + text

    def refuse(self, *_: object) -> None:
        """Refuse a document type, whose entities may grow without bounds."""
        raise InputError(
            "found a DOCTYPE",
            where=f"{shown(self.path)}:{self.parser.CurrentLineNumber}",
            expected="XML without one",
            remedy="remove it",
        )


def read_xml_topics(path: str | Path, field: str = "title") -> Iterator[Query]:
    """Yield the query of each <topic number="N">: the text of one field, or its own where it has no fields.

    Raises InputError with file:line for XML that is not well formed, and a topic without a number or a text.
    """
    topics, count = _Topics(path), 0
    with open_bytes(path) as stream:
        try:
            topics.parser.ParseFile(stream)
        except expat.ExpatError as error:
            raise InputError(
                f"not well-formed XML ({expat.ErrorString(error.code)})",
                where=f"{shown(path)}:{error.lineno}",
                remedy="correct the file, or write `qid<TAB>text`",
            ) from None
        except EOFError as error:
            raise InputError(f"the file is cut short or damaged ({error})", where=shown(path)) from None
    for number, held in topics.found:
        count += 1
        yield _topic(held, field, path, number)
    if not count:
        raise InputError("no <topic>", where=f"{shown(path)}:1", expected="XML with a <topic> for each query")
