"""The folders of an encoder's two sides, and the encoder of one side that knows which encoder the other side has.

An encoder has one folder for both sides. A pair has two: the subfolders `query` and `document` of a folder whose
drtools.json has `{"kind": "pair"}`, or two folders that the user names together. The user's word makes a pair of them:
neither folder has to know the other one's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drtools.errors import InputError, param
from drtools.models.encoder_files import load_encoder
from drtools.models.hub import resolve
from drtools.models.pair import EncoderPair
from drtools.models.settings import (
    SIDES,
    check_side,
    fingerprints,
    is_lexical,
    read_settings,
    side_folder,
    vector_dimension,
)

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder


def side_folders(model: str, document_model: str | None = None) -> dict[str, Path]:
    """Return the folder of each side: both of `model`, or the documents' of `document_model`."""
    named = {"query": model, "document": document_model or model}
    folders = {side: side_folder(resolve(name), side) for side, name in named.items()}
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


def load_sides(
    folders: dict[str, Path],
    side: str | None = None,
    pooling: str | None = None,
    trust_remote_code: bool = False,
    dropout: float | None = None,
) -> Encoder | EncoderPair[Encoder]:
    """Load the encoder of both sides, or of one `side`, out of the folders of the sides.

    With two folders and no `side` it is a pair. The encoder of one side of a pair has the fingerprint of the other.
    """
    more = (pooling, trust_remote_code, dropout)
    if folders["query"] == folders["document"]:
        return load_encoder(str(folders["query"]), *more)
    if side is None:
        query, document = (load_encoder(str(folders[each]), *more).of(each) for each in SIDES)
        together = folders["query"].parent == folders["document"].parent
        return EncoderPair(query, document, folders["query"].parent if together else folders["query"]).eval()
    known = pair_fingerprints(folders, pooling)
    encoder = load_encoder(str(folders[side]), *more)
    other = SIDES[1 - SIDES.index(side)]
    encoder.of(side).settings.inherited = {other: known[other]}
    return encoder
