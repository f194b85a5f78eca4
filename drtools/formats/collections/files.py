"""Native files and folders as parts of a collection: the form and the role of a file, found by its content."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from drtools.errors import InputError, param
from drtools.formats.archives import is_tar_name, unpack
from drtools.formats.collections import layouts
from drtools.formats.collections.columns import documents_of, judgements_of, places, queries_of
from drtools.formats.collections.parts import Judgement, Parts, Query, ReadingOptions
from drtools.formats.collections.rows import (
    ARROW,
    PARQUET,
    Row,
    delimiter_of,
    header_of,
    read_csv,
    read_json_rows,
    read_table,
    table_columns,
    table_rows,
)
from drtools.formats.collections.squad import squad_parts
from drtools.formats.collections.trec_documents import read_trec_documents
from drtools.formats.collections.trec_topics import read_classic_topics, read_xml_topics
from drtools.formats.corpora import DOCUMENT_COLUMNS, QUERY_COLUMNS, Document, read_corpus, read_queries
from drtools.formats.lines import decode, first_line, local, name_copy, open_bytes, shown, unpacked
from drtools.formats.other_tables import QRELS_NAMES
from drtools.formats.packing import MEMBER, members_of
from drtools.formats.signatures import refuse_other_formats
from drtools.formats.trec import looks_like_judgements, read_qrels
from drtools.formats.tsv import header_words
from drtools.units import counted

FileRole = Literal["documents", "queries", "qrels"]
Form = Literal["archive", "table", "trec documents", "topics", "xml topics", "squad", "json", "qrels", "csv", "tsv"]
HEAD = 1 << 16  # bytes by which a form is known
ROLES: dict[FileRole, set[str]] = {  # words in the names of files and folders
    "documents": {*"corpus collection collections documents document docs doc passages passage psgs articles".split()},
    "queries": {*"queries query topics topic questions question".split()},
    "qrels": {*"qrels qrel judgements judgments".split()},
}
SPLITS = ("train", "training", "dev", "validation", "valid", "val", "test", "forum", "search")
OF_DOCUMENTS = {*"title contents passage body document doc paragraph passage_text doc_text abstract headline".split()}
OF_QUERIES = {*"query question query_text question_text raw_query topic".split()}
UNREAD = {".md", ".txt~", ".py", ".gitattributes", ".lock", ".png", ".pdf", ".license", ".docx", ".sha256", ".md5"}


def parts_of(path: str, role: FileRole | None, options: ReadingOptions) -> Parts:
    """Return the parts of a file or a folder; raise InputError for one that is not recognised."""
    if Path(path).is_dir():
        return _folder_parts(path, options)
    path = local(path)
    if is_tar_name(path):
        return _folder_parts(_unpacked_tar(path), options)
    form = _form_of(path)
    if form in ("archive", "table"):
        path = unpacked(path)
    if form == "archive":
        return archive_parts(path, options)
    return _file_parts(path, form, role, options)


def _unpacked_tar(path: str) -> str:
    """Unpack a tar archive into a temporary folder, which goes with this process; return the folder of its files.

    The members of a packed tar cannot be opened one by one, as those of a zip: each would be searched from the start.
    """
    folder = Path(tempfile.mkdtemp(prefix="drtools-archive-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in unpack(Path(path), folder):
        name_copy(file, f"{path}!{file.relative_to(folder)}")
    while len(inner := [*folder.iterdir()]) == 1 and inner[0].is_dir():
        folder = inner[0]
    name_copy(folder, path)
    return str(folder)


def archive_parts(path: str, options: ReadingOptions, within: str = "") -> Parts:
    """Return the parts of a zip archive: of all its files, or of those in the folder `within`."""
    members = members_of(path)
    return _listed_parts(path, [each for each in members if each.startswith(f"{path}!{within}")], options)


def _folder_parts(path: str, options: ReadingOptions) -> Parts:
    known = layouts.of_folder(path, options)
    if known is not None:
        return known
    files = sorted(each for each in Path(path).rglob("*") if each.is_file())
    visible = [each for each in files if not any(part.startswith(".") for part in each.relative_to(path).parts)]
    return _listed_parts(path, [str(each) for each in visible], options)


def _listed_parts(where: str, files: list[str], options: ReadingOptions) -> Parts:
    """Return the parts of several files whose roles their names and contents tell; others are reported."""
    parts, unread = Parts(), list[str]()
    for file in files:
        name = file.removeprefix(where)
        if Path(file).suffix.lower() in UNREAD or Path(file).name in ("LICENSE", "manifest.json", "dataset_info.json"):
            continue
        split = _split_in(name)
        role = _role_in(name)
        if options.split and split not in (None, options.split) and role != "documents":
            continue
        try:
            parts += _file_parts(file, _form_of(file), role, options._replace(split=split or options.split), name)
        except _UnknownError as error:
            unread.append(f"{shown(file)}: {error.found}")
    if parts == Parts():
        raise InputError(
            "no file of documents, queries or judgements was recognised" + (f" ({unread[0]})" if unread else ""),
            where=shown(where),
            remedy=f"name the files, with {param('corpus')}, {param('queries')} and {param('qrels')}",
        )
    caution = f"{counted(len(unread), 'file was', 'files were')} not read (for instance {unread[0] if unread else ''})"
    return parts + Parts(cautions=(caution,) * bool(unread))


class _UnknownError(InputError):
    """A file whose form or role is not known; in a folder it is reported and left out."""


def _form_of(path: str) -> Form:
    """Return the form of a file by its first bytes."""
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return "archive"
    if head.startswith((PARQUET, ARROW)) or (head.startswith(b"\xff\xff\xff\xff") and path.endswith(".arrow")):
        return "table"
    refuse_other_formats(head.split(b"\n", 1)[0], shown(path))
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text:
        raise _UnknownError("the file is empty", where=shown(path), remedy="fetch or write it again")
    if text.startswith("<"):
        return _markup_form(text, path)
    if text.startswith("{"):
        return "squad" if re.match(r'\{\s*"(data|version)"', text) and '"paragraphs"' in text else "json"
    if text.startswith("["):
        return "json"
    line = decode(first_line(path), path, 1)
    if looks_like_judgements(line):
        return "qrels"
    return "csv" if delimiter_of(line) != "\t" and _has_names(header_of(path)) else "tsv"


def _markup_form(text: str, path: str) -> Form:
    found = re.search(r"<(top|topics|topic|doc|docno)(?=[\s>])", text, re.IGNORECASE)
    if found is None:
        raise _UnknownError(
            f"found markup that is not known ({text[:40]!r})",
            where=f"{shown(path)}:1",
            expected="<DOC>, <top> or <topics>",
            remedy="convert it, for instance to JSON lines",
        )
    tag = found[1].lower()
    return "trec documents" if tag.startswith("doc") else "topics" if tag == "top" else "xml topics"


def _has_names(columns: list[str]) -> bool:
    """Return whether a line is a header: it has usual names, or several words without digits."""
    known = {name for layout in (DOCUMENT_COLUMNS, QUERY_COLUMNS) for names in layout.names.values() for name in names}
    return bool(known & {*header_words(columns)}) or len(places(columns, QRELS_NAMES)) == len(QRELS_NAMES)


def _head(path: str) -> bytes:
    try:
        with open_bytes(path) as stream:
            return stream.read(HEAD)
    except (EOFError, OSError, zlib.error) as error:
        if getattr(error, "errno", None) is None:  # damage, which the reader of lines words
            first_line(path)
        raise


def _file_parts(
    path: str, form: Form, role: FileRole | None, options: ReadingOptions, name: str | None = None
) -> Parts:
    """Return the parts of one file."""
    split = options.split or _split_in(name or path) or "test"
    if form == "trec documents":
        return Parts((partial(read_trec_documents, path),))
    if form in ("topics", "xml topics"):
        read = read_classic_topics if form == "topics" else read_xml_topics
        return Parts(queries=(partial(read, path, options.topic_field),))
    if form == "squad":
        return squad_parts(path, split)
    if form == "archive":
        raise _UnknownError("an archive within an archive or folder", where=shown(path), remedy="unpack it")
    columns = _columns(path, form)
    if {*columns} >= layouts.LOTTE:
        return layouts.lotte_parts(path, split)
    if form == "qrels" or (len(places(columns, QRELS_NAMES)) == len(QRELS_NAMES) and role != "documents"):
        if role in ("documents", "queries"):
            raise InputError(f"found judgements, expected {role}", where=f"{shown(path)}:1")
        return Parts(judgements=((split, partial(_judgements, path, form)),))
    role = role or _role_in(name or Path(path).name) or _role_of_columns(columns)
    if role is None:
        raise _UnknownError(
            "could hold documents or queries" + (f" (columns {', '.join(columns)})" if columns else ""),
            where=shown(path),
            remedy=f"name it with {param('corpus')} or {param('queries')}",
        )
    if role == "qrels":
        raise InputError("is named as judgements, but has none in its first line", where=f"{shown(path)}:1")
    if role == "documents":
        total = table_rows(path) if form == "table" else None
        return Parts((partial(_documents, path, form, options),), total=total)
    return Parts(queries=(partial(_queries, path, form, options),))


def _columns(path: str, form: Form) -> list[str]:
    """Return the names of a file's columns or keys; none for lines without a header."""
    if form == "table":
        return table_columns(path)
    if form == "json":
        return list(next(read_json_rows(path), Row("", 0, {})).values)
    if form == "csv":
        return header_of(path)
    header = header_of(path) if form == "tsv" else []
    return header if _has_names(header) else []


def _rows(path: str, form: Form) -> Iterator[Row]:
    return read_table(path) if form == "table" else read_json_rows(path) if form == "json" else read_csv(path)


def _has_own_reader(form: Form, options: ReadingOptions) -> bool:
    """Return whether the readers of corpora and queries, which every tool has, read a file."""
    return form in ("json", "tsv") and not (options.id_column or options.text_column or options.title_column)


def _documents(path: str, form: Form, options: ReadingOptions) -> Iterator[tuple[str, Document]]:
    if _has_own_reader(form, options) and not first_line(path).lstrip().startswith(b"["):
        return ((f"{shown(path)}:{number}", document) for number, document in read_corpus(path))
    return documents_of(_rows(path, form), options)


def _queries(path: str, form: Form, options: ReadingOptions) -> Iterator[Query]:
    if _has_own_reader(form, options) and not first_line(path).lstrip().startswith(b"["):
        return (Query(shown(path), query_id, text) for query_id, text in read_queries(path).items())
    return queries_of(_rows(path, form), options)


def _judgements(path: str, form: Form) -> Iterator[Judgement]:
    if form != "qrels":
        yield from judgements_of(_rows(path, form))
        return
    for query_id, grades in read_qrels(path).items():
        for document_id, grade in grades.items():
            yield Judgement(shown(path), query_id, document_id, grade)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word]


def _role_in(name: str) -> FileRole | None:
    """Return the role that the words in a file's name tell, or those in its folders', the nearest first."""
    for part in reversed(Path(name.split(MEMBER)[-1]).parts):
        words = {*_words(part)}
        found: list[FileRole] = [role for role, names in ROLES.items() if words & names]
        if found:
            return "qrels" if "qrels" in found else "queries" if "queries" in found else found[0]
    return None


def _split_in(name: str) -> str | None:
    """Return the split that a file's name tells, or its folder's if that is the name of a split."""
    parts = Path(name.split(MEMBER)[-1]).parts
    for part in reversed(parts[-2:]):
        found = [word for word in _words(part) if word in SPLITS]
        if found:
            return found[0]
    return None


def _role_of_columns(columns: list[str]) -> FileRole | None:
    words = {*header_words(columns)}
    if words & OF_DOCUMENTS and not words & OF_QUERIES:
        return "documents"
    return "queries" if words & OF_QUERIES and not words & OF_DOCUMENTS else None
