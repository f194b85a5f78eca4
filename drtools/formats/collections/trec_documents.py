"""Documents in TREC's SGML: <DOC> elements with a <DOCNO>, read one at a time."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

from drtools.errors import InputError
from drtools.formats.corpora import Document
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import LONGEST_LINE, decode, read_lines, shown

MARK = re.compile(r"<(/?)DOC(?:\s[^>]*)?>", re.IGNORECASE)
DOCNO = re.compile(r"<DOCNO>(.*?)</DOCNO>", re.IGNORECASE | re.DOTALL)
OTHER_IDS = re.compile(r"<(DOCID|DOCHDR|DOCOLDNO|PARENT)>.*?</\1>", re.IGNORECASE | re.DOTALL)
# the elements of a headline and of a text in TREC's disks, AQUAINT, GOV and MS MARCO
TITLES = re.compile(r"<(HEADLINE|TITLE|HEAD|HL|TTL|TI|H3)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
TEXTS = re.compile(r"<(TEXT|LEADPARA|LP)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
TAG = re.compile(r"</?[A-Za-z!?][^<>]*>")
INLINE = re.compile(
    r"</?(?:b|i|u|em|strong|a|font|span|sub|sup)(?:\s[^<>]*)?>", re.IGNORECASE
)  # within a word or before a stop


def read_trec_documents(path: str | Path) -> Iterator[tuple[str, Document]]:
    """Yield (place, document) of each <DOC>: its <DOCNO>, its headline as title, and its text without tags.

    The text is what the elements TEXT, LP and LEADPARA hold, or without any of them all but the title. Raises
    InputError with file:line for a document without a DOCNO, one that is not closed, and text outside of documents.
    """
    for number, block in _blocks(path):
        place = f"{shown(path)}:{number}"
        found = DOCNO.search(block)
        if found is None:
            raise InputError("a document has no <DOCNO>", where=place, remedy="give each <DOC> one")
        rest = OTHER_IDS.sub(" ", block[: found.start()] + " " + block[found.end() :])
        title = TITLES.search(rest)
        texts = [each[2] for each in TEXTS.finditer(rest)]
        if not texts:
            texts = [rest[: title.start()] + " " + rest[title.end() :] if title else rest]
        document_id = checked_id(found[1].strip(), path, number)
        yield place, Document(document_id, without_tags(title[2]) if title else "", without_tags(" ".join(texts)))


def without_tags(text: str) -> str:
    """Return a text without tags and comments, entities as characters, and white space as single spaces."""
    return " ".join(html.unescape(TAG.sub(" ", INLINE.sub("", COMMENT.sub(" ", text)))).split())


def _blocks(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line of its <DOC>, what a document holds)."""
    begun, size, held = 0, 0, list[str]()
    for number, line in read_lines(path, with_blank=True):
        text, at = decode(line, path, number) + "\n", 0
        for mark in MARK.finditer(text):
            before, at = text[at : mark.start()], mark.end()
            if bool(mark[1]) != bool(begun):
                raise InputError(
                    f"<DOC> was found in the document that begins in line {begun}" if begun else "</DOC> without <DOC>",
                    where=f"{shown(path)}:{number}",
                    expected="each <DOC> closed by </DOC>",
                    remedy="is the file whole?",
                )
            if begun:
                yield begun, "".join([*held, before])
                begun, size, held = 0, 0, []
            else:
                _check_outside(before, path, number)
                begun = number
        rest = text[at:]
        if begun:
            held.append(rest)
            size += len(rest)
            _check_size(size, path, begun)
        else:
            _check_outside(rest, path, number)
    if begun:
        raise InputError(
            "the file ends within a document",
            where=f"{shown(path)}:{begun}",
            expected="</DOC>",
            remedy="fetch or write the file again",
        )


def _check_size(size: int, path: str | Path, begun: int) -> None:
    if size > LONGEST_LINE:
        raise InputError(
            f"a document of over {LONGEST_LINE:,} characters begins here",
            where=f"{shown(path)}:{begun}",
            remedy="does it lack its </DOC>?",
        )


def _check_outside(text: str, path: str | Path, number: int) -> None:
    """Raise InputError for text between documents; tags of an element around them and comments may stand there."""
    left = TAG.sub("", COMMENT.sub("", text)).strip()
    if left:
        raise InputError(
            f"found {left[:40]!r} outside of a document",
            where=f"{shown(path)}:{number}",
            expected="<DOC>",
            remedy="is this a file of TREC documents?",
        )
