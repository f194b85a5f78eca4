"""An encoder as its files describe it, before anything is loaded: the folders of its sides and their settings.

An encoder has one folder for both sides. A pair has two: the subfolders `query` and `document` of a folder whose
drtools.json has `{"kind": "pair"}`, or two folders that the user names together. The user's word makes a pair of them:
neither folder has to know the other one's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from drtools.errors import InputError, param
from drtools.models.hub import resolve
from drtools.models.settings import (
    SIDES,
    EncoderSettings,
    check_side,
    fingerprints,
    is_lexical,
    read_settings,
    side_folder,
    vector_dimension,
)
from drtools.models.specs import EncoderSpec


class EncoderFiles(NamedTuple):
    """What the files of an encoder say.

    `folders` has the folder of each side, the same one where one encoder encodes both. `settings` has those of the
    sides that are wanted, the same object where the folder is the same.
    """

    folders: dict[str, Path]
    settings: dict[str, EncoderSettings]

    @property
    def is_pair(self) -> bool:
        """Whether the two sides have encoders of their own."""
        return self.folders["query"] != self.folders["document"]


def read_encoder(spec: EncoderSpec, side: str | None = None, folders: dict[str, Path] | None = None) -> EncoderFiles:
    """Read the files of the encoder that a specification names, or those of one `side` of it.

    `folders` are those of the sides, for a caller that has looked the names up. InputError for an encoder that was made
    for the other side, for a lexical one, and for a pair with a REM.
    """
    name = spec.start()
    folders = folders or side_folders(name, spec.document_model)
    if spec.rem and folders["query"] != folders["document"]:
        raise InputError(
            "a pair of encoders, on which no REM can be put",
            where=folders["query"].parent,
            remedy="name one of its subfolders, query or document",
        )
    known: dict[Path, EncoderSettings] = {}
    settings = {}
    for needed in (side,) if side else SIDES:
        folder = folders[needed]
        settings[needed] = known[folder] = known.get(folder) or read_settings(folder, spec.pooling)
        check_side(settings[needed], needed, spec.document_model or name if needed == "document" else name)
    return EncoderFiles(folders, settings)


def side_folders(model: str, document_model: str | None = None) -> dict[str, Path]:
    """Return the folder of each side: both of `model`, or the documents' of `document_model`."""
    named = {"query": model, "document": document_model or model}
    found = {name: resolve(name) for name in dict.fromkeys(named.values())}
    folders = {side: side_folder(found[name], side) for side, name in named.items()}
    if document_model:
        for side, folder in folders.items():
            if is_lexical(folder):
                raise InputError(
                    "a lexical encoder, which encodes both sides",
                    where=named[side],
                    remedy=f"leave {param('document_model')} out",
                )
    return folders


def pair_fingerprints(folders: dict[str, Path], pooling: str | None = None) -> dict[str, str]:
    """Return the fingerprint of each side, as the folders' files say; InputError for two that cannot be a pair."""
    found, dimensions = {}, {}
    for side, folder in folders.items():
        settings = read_settings(folder, pooling)
        check_side(settings, side, str(folder))
        found[side] = fingerprints(folder, settings)[side]
        dimensions[side] = vector_dimension(folder, settings)
    if dimensions["query"] != dimensions["document"]:
        raise InputError(
            (
                f"its vectors have {dimensions['query']} dimensions, those of {folders['document']} "
                f"{dimensions['document']}; two encoders that belong together have the same number"
            ),
            where=folders["query"],
        )
    return found
