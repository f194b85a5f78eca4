"""The folders and settings of an encoder's sides, read before anything is loaded.

An encoder has one folder for both sides. A pair has two: the subfolders `query` and `document` of a folder whose
drtools.json has `{"kind": "pair"}`, or two folders that the user names together. The user makes them a pair: neither
folder needs to have the fingerprint of the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from drtools.errors import InputError, param
from drtools.models.resolving import resolve
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
    """The folders and settings of an encoder.

    `folders` has the folder of each side; it is the same if one encoder encodes both. `settings` has the settings of
    the requested sides; it is the same object if the folder is the same.
    """

    folders: dict[str, Path]
    settings: dict[str, EncoderSettings]

    @property
    def is_pair(self) -> bool:
        """Whether the sides have separate encoders."""
        return self.folders["query"] != self.folders["document"]


def read_encoder(spec: EncoderSpec, side: str | None = None, folders: dict[str, Path] | None = None) -> EncoderFiles:
    """Read the files of the encoder in a specification, or only those of one `side`.

    `folders` are the folders of the sides, if the caller has already resolved the names. Raises InputError for an
    encoder that was made for the other side, for a lexical encoder, and for a pair with a REM.
    """
    name = spec.start()
    folders = folders or side_folders(name, spec.document_model)
    if spec.rem and folders["query"] != folders["document"]:
        raise InputError(
            "a pair of encoders, which cannot have a REM",
            where=folders["query"].parent,
            remedy="pass one of its subfolders, query or document",
        )
    known: dict[Path, EncoderSettings] = {}
    settings = {}
    for needed in (side,) if side else SIDES:
        folder = folders[needed]
        settings[needed] = known[folder] = known.get(folder) or read_settings(folder, spec.pooling)
        check_side(settings[needed], needed, spec.document_model or name if needed == "document" else name)
    return EncoderFiles(folders, settings)


def side_folders(model: str, document_model: str | None = None) -> dict[str, Path]:
    """Return the folder of each side: both from `model`, or that of documents from `document_model`."""
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
    """Return the fingerprint of each side from the folders' files. Raises InputError if they cannot be a pair."""
    found, dimensions = {}, {}
    for side, folder in folders.items():
        settings = read_settings(folder, pooling)
        check_side(settings, side, str(folder))
        found[side] = fingerprints(folder, settings)[side]
        dimensions[side] = vector_dimension(folder, settings)
    if dimensions["query"] != dimensions["document"]:
        raise InputError(
            (
                f"its vectors have {dimensions['query']} dimensions, those of {folders['document']} have "
                f"{dimensions['document']}; the encoders of a pair must have the same dimension"
            ),
            where=folders["query"],
        )
    return found
