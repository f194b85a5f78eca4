"""Data sets of ir_datasets, by their names there, as parts of a collection.

ir_datasets keeps documents that it looks up in pickled stores of its home, and reads those where they exist. A pickle
can run code while it is read, so its modules get a reader of plain values in place of Python's.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from drtools.errors import InputError, WorldError
from drtools.formats import plain_pickles
from drtools.formats.collections.files import archive_parts
from drtools.formats.collections.parts import Judgement, Parts, Query, ReadingOptions
from drtools.formats.corpora import Document, document_text
from drtools.formats.json_lines import checked_id

INSTALL = "install it with `pip install 'drtools[collections]'`"
BEIR = "beir"
HAS_VERSIONS = ("cqadupstack", "webis-touche2020/v2")  # of BEIR: names of two parts


@cache
def library() -> Any:
    """Return ir_datasets with every pickle read as plain values; None where it is not installed."""
    os.environ.setdefault("IR_DATASETS_SKIP_DEPRECATED_WARNING", "true")
    try:
        import ir_datasets
    except ImportError:
        return None
    plain = SimpleNamespace(
        **{name: getattr(pickle, name) for name in ("dump", "dumps", "UnpicklingError", "HIGHEST_PROTOCOL")},
        load=plain_pickles.load,
        loads=plain_pickles.loads,
    )
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "ir_datasets" and getattr(module, "pickle", None) is pickle:
            module.pickle = plain  # type: ignore[attr-defined]
    logging.getLogger("ir_datasets").setLevel(logging.WARNING)
    return ir_datasets


def names() -> list[str]:
    """Return the names of ir_datasets' data sets; none without it."""
    return sorted(library().registry) if library() else []


def is_known(name: str) -> bool:
    """Return whether ir_datasets is installed and knows a name."""
    if library() is None:
        return False
    try:
        library().registry[name]
    except KeyError:
        return False
    return True


def parts_of_name(name: str, options: ReadingOptions) -> Parts:
    """Return the parts of a data set. The split of its judgements is what its name adds to that of its corpus.

    BEIR's are fetched here, others when their parts are read. Raises InputError for a name without documents and
    queries.
    """
    if name.split("/")[0] == BEIR and "/" in name:
        return _beir_parts(name, options)
    dataset = library().load(name)
    split = options.split or name.removeprefix(corpus_of(name)).strip("/").replace("/", "-") or "test"
    total = (dataset.docs_metadata() or {}).get("count") if dataset.has_docs() else None
    parts = Parts(
        (partial(_documents, name, dataset),) * dataset.has_docs(),
        (partial(_queries, name, dataset, options.topic_field),) * dataset.has_queries(),
        ((split, partial(_judgements, name, dataset)),) * dataset.has_qrels(),
        total=total,
    )
    if not parts.documents and not parts.queries:
        below = [each for each in names() if each.startswith(f"{name}/")]
        raise InputError(
            "has neither documents nor queries",
            where=name,
            remedy=f"name a part of it, for instance {below[0]}" if below else "choose another data set",
        )
    return parts


def corpus_of(name: str) -> str:
    """Return the data set whose documents a data set has: the shortest beginning of its name that has documents."""
    steps = name.split("/")
    if steps[0] == BEIR:
        has_version = any(name.removeprefix(f"{BEIR}/").startswith(each) for each in HAS_VERSIONS)
        return "/".join(steps[: 3 if has_version else 2])
    for length in range(1, len(steps) + 1):
        above = "/".join(steps[:length])
        if is_known(above) and library().load(above).has_docs():
            return above
    return name


@contextmanager
def _worded(name: str) -> Iterator[None]:
    """Word the failures of ir_datasets, whose parsers and downloads raise errors of any kind."""
    try:
        yield
    except (InputError, WorldError):
        raise
    except Exception as error:
        raise _as_ours(name, error) from None


def _as_ours(name: str, error: Exception) -> InputError | WorldError:
    home = library().util.home_path() / name.split("/")[0]
    words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"RequestException", "ConnectionError", "TimeoutError"} or "download sources failed" in words:
        return WorldError(f"{name}: could not be fetched ({words}); without a network, put its files into {home}")
    if isinstance(error, OSError):
        return WorldError(f"{name}: ir_datasets could not read its files ({words}); put them into {home}")
    if isinstance(error, pickle.UnpicklingError):
        return InputError(
            f"a stored pickle is not of plain values ({error})",
            where=name,
            remedy=f"remove the .pklz4 folder below {home}; the documents are then read from their source",
        )
    if isinstance(error, ImportError):
        return InputError(str(error), where=name)
    return InputError(
        f"ir_datasets could not read it ({words})", where=name, remedy=f"remove its files below {home}, run this again"
    )


def _checked(where: str, value: object) -> str:
    try:
        return checked_id(value, "", 0)
    except InputError as error:
        raise InputError(error.found, where=where, expected=error.expected, remedy=error.remedy) from None


def _documents(name: str, dataset: Any) -> Iterator[tuple[str, Document]]:
    with _worded(name):
        for number, document in enumerate(dataset.docs_iter(), 1):
            where = f"{name}: document {number:,}"
            found = as_document(document)
            yield where, found._replace(id=_checked(where, found.id))


def as_document(document: Any) -> Document:
    """Return a document of ir_datasets with title and text apart, if its default text begins with the title.

    MS MARCO's documents are url, title and body, as STAR's authors read them; url and title form the title.
    """
    text = str(document.default_text())
    title = str(getattr(document, "title", None) or "")
    if getattr(document, "url", None) and getattr(document, "body", None):
        return Document(document.doc_id, f"{document.url} {title}".strip(), document.body)
    rest = text[len(title) :].lstrip() if title and text.startswith(title) else ""
    if document_text(title, rest) != text.strip():
        return Document(document.doc_id, "", text)
    return Document(document.doc_id, title, rest)


def _queries(name: str, dataset: Any, field: str) -> Iterator[Query]:
    with _worded(name):
        for number, query in enumerate(dataset.queries_iter(), 1):
            where = f"{name}: query {number:,}"
            text = query.default_text() if field == "title" else getattr(query, field, None)
            if not isinstance(text, str):
                raise InputError(
                    f"a query has no {field} (it has {', '.join(query._fields)})",
                    where=where,
                    remedy="name another field",
                )
            yield Query(where, _checked(where, query.query_id), text)


def _judgements(name: str, dataset: Any) -> Iterator[Judgement]:
    with _worded(name):
        for number, found in enumerate(dataset.qrels_iter(), 1):
            where = f"{name}: judgement {number:,}"
            yield Judgement(where, _checked(where, found.query_id), _checked(where, found.doc_id), int(found.relevance))


def _beir_parts(name: str, options: ReadingOptions) -> Parts:
    """Return the parts of BEIR's archive, which ir_datasets fetches: those of one split if the name has one."""
    corpus = corpus_of(name).removeprefix(f"{BEIR}/")
    split = name.removeprefix(f"{BEIR}/{corpus}").strip("/") or options.split
    with _worded(name):
        config = library().util.DownloadConfig.context(BEIR, library().util.home_path() / BEIR)
        archive = Path(config[corpus if corpus in config.contents() else corpus.split("/")[0]].path())
    within = "" if corpus in config.contents() else f"{corpus}/"
    return archive_parts(str(archive), options._replace(split=split), within)
