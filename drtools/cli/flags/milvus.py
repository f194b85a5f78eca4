"""Flags for an index in Milvus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import given_flags
from drtools.errors import InputError

PANEL = "Milvus"


@dataclass(frozen=True)
class MilvusFlags:
    """In which server and collection vectors are indexed, and how."""

    milvus: Annotated[
        str | None,
        Option(
            help="index the vectors in Milvus: http://HOST:19530, or FILE.db for Milvus Lite; the token is read from "
            "MILVUS_TOKEN",
            rich_help_panel=PANEL,
        ),
    ] = None
    collection: Annotated[
        str | None,
        Option(help="name of the collection; a fingerprint of the content is added to it", rich_help_panel=PANEL),
    ] = None
    index_type: Annotated[
        str | None,
        Option(help="HNSW (default), IVF_FLAT, DISKANN, FLAT, or another type of the server", rich_help_panel=PANEL),
    ] = None
    index_parameters: Annotated[
        str | None, Option(help="parameters of its build, for instance M=32,efConstruction=200", rich_help_panel=PANEL)
    ] = None
    fields: Annotated[
        str | None,
        Option(
            help="keys of the corpus to store and to filter by: lang,date; they are read from --corpus, or from the "
            "corpus that was encoded",
            rich_help_panel=PANEL,
        ),
    ] = None

    def check(self) -> None:
        """Raise InputError for flags that do not go together."""
        others = given_flags(
            {
                "collection": self.collection,
                "index_type": self.index_type,
                "index_parameters": self.index_parameters,
                "fields": self.fields,
            }
        )
        if not self.milvus and others:
            raise InputError("this needs --milvus", where=" and ".join(others), remedy="pass it too, or leave this out")
        if self.milvus and not self.collection:
            raise InputError("--milvus needs --collection", remedy="pass --collection NAME too")

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The parameters of the build by name."""
        found: dict[str, int | float | str] = {}
        for part in self.index_parameters.split(",") if self.index_parameters else ():
            name, sign, value = (text.strip() for text in part.partition("="))
            if not re.fullmatch(r"\w+", name) or not sign or not value or name in found:
                raise InputError(
                    f"found {part!r}",
                    where=f"--index-parameters {self.index_parameters}",
                    expected="different names with values, as M=32,efConstruction=200",
                )
            found[name] = _number(value)
        return found


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
