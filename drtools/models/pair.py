"""A pair of encoders in one vector space: one for queries, one for documents."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

from drtools.errors import InputError
from drtools.models.json_files import listed_modules
from drtools.models.settings import SIDES

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder
    from drtools.models.lexical import LexicalEncoder

Half = TypeVar("Half", bound="Encoder | LexicalEncoder")


class EncoderPair(nn.Module, Generic[Half]):
    """An encoder of queries and an encoder of documents. `folder` is the origin of both."""

    def __init__(self, query: Half, document: Half, folder: Path | None = None) -> None:
        super().__init__()
        if query.dimension != document.dimension:
            raise InputError(
                f"queries with {query.dimension} and documents with {document.dimension} dimensions cannot be compared",
                where=folder,
                remedy="use encoders of the same dimension",
            )
        self.query, self.document, self.folder = query, document, folder

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self.document.dimension

    def of(self, side: str) -> Half:
        """Return the encoder of a side (`query` or `document`)."""
        return self.query if side == "query" else self.document

    def side_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each side, from its own encoder."""
        return {side: self.of(side).side_fingerprints()[side] for side in SIDES}


def halves(encoder: Encoder | EncoderPair[Encoder]) -> list[Encoder]:
    """Return the encoders of the two sides: one if they are the same."""
    return list(dict.fromkeys(encoder.of(side) for side in SIDES))


def untie(encoder: Encoder) -> EncoderPair[Encoder]:
    """Return a pair of copies of an encoder, one for each side, which are trained separately."""
    pair = EncoderPair(copy.deepcopy(encoder), copy.deepcopy(encoder), encoder.folder)
    for half in halves(pair):
        half.settings.inherited = {}
    return pair


def router_files(pair: EncoderPair[Encoder], folder: Path) -> dict[str, object]:
    """Return the files of a pair for sentence-transformers, by name: a Router over both subfolders."""
    modules = {side: listed_modules(folder / side) for side in SIDES}
    structure = {side: [f"{side}/{module['path']}".rstrip("/") for module in modules[side]] for side in SIDES}
    types = {
        path: module["type"] for side in SIDES for path, module in zip(structure[side], modules[side], strict=True)
    }
    return {
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}],
        "router_config.json": {
            "types": types,
            "structure": structure,
            "parameters": {"default_route": "document", "allow_empty_key": True},
        },
        "config_sentence_transformers.json": {
            "prompts": {side: pair.of(side).settings.prompt(side) for side in SIDES},
            "default_prompt_name": None,
            "similarity_fn_name": pair.document.settings.similarity_word,
        },
    }
