"""Turn vectors of another program into a vectors folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.lines import shown
from drtools.formats.npy_vectors import copy_ids, copy_rows, open_foreign
from drtools.formats.vectors import EncodedManifest, create_array
from drtools.models.settings import fingerprints, vector_dimension
from drtools.models.sides import pair_fingerprints, read_encoder
from drtools.models.specs import EncoderSpec

if TYPE_CHECKING:
    from drtools.outputs.work import Work


@dataclass(frozen=True)
class AdoptionSpec:
    """An .npy file of vectors [N, D], a file with the ids of its rows, and the encoder that made it.

    `document_model` is the encoder of documents if it is a different one. Without a `dtype`, numbers keep theirs,
    except that float64 becomes float32.
    """

    vectors: str
    ids: str
    model: str
    document_model: str | None = None
    pooling: str | None = None
    side: Literal["document", "query"] = "document"
    corpus: str | None = None
    dtype: Literal["float16", "float32"] | None = None


def adopt(work: Work, spec: AdoptionSpec) -> EncodedManifest:
    """Write the vectors and their ids into the folder of `work`. Returns their manifest."""
    vectors = shown(spec.vectors)
    array = open_foreign(spec.vectors)
    count, dimension = array.shape
    maker, normalized, known = encoder_of(spec, dimension)
    row_ids = copy_ids(spec.ids, work.path)
    if len(row_ids) != count:
        raise InputError(
            f"{len(row_ids):,} ids for the {count:,} rows of {vectors}",
            where=shown(spec.ids),
            expected="one line for each row, in the same order",
        )
    kept = spec.dtype or ("float16" if array.dtype.itemsize == 2 else "float32")
    into = create_array(work.path, count, dimension, kept)
    of_length_one = copy_rows(spec.vectors, array, into, row_ids)
    if array.dtype.itemsize > into.dtype.itemsize:
        reporting.say(f"{vectors}: numbers were rounded from {array.dtype} to {kept}")
    if normalized:
        reporting.notice(
            count - of_length_one,
            f"{count - of_length_one:,} of {count:,} vectors do not have length 1, though {maker} ends in "
            "normalization; is it the encoder that made them?",
        )
    return EncodedManifest(
        side=spec.side,
        count=count,
        dimension=dimension,
        dtype=kept,
        normalized=of_length_one == count,
        model=spec.model,
        document_model=spec.document_model,
        corpus=shown(spec.corpus) if spec.corpus else None,
        title_separator=None,
        max_tokens=None,
        query_fingerprint=known["query"],
        document_fingerprint=known["document"],
    )


def encoder_of(spec: AdoptionSpec, dimension: int) -> tuple[str, bool, dict[str, str]]:
    """Return the name of the encoder that made vectors, whether it normalizes them, and the fingerprints of both sides.

    Raises InputError if the dimensions differ.
    """
    encoder = EncoderSpec(spec.model, spec.document_model, pooling=spec.pooling)
    files = read_encoder(encoder, spec.side)
    folders, settings = files.folders, files.settings[spec.side]
    maker = spec.document_model if spec.side == "document" and spec.document_model else spec.model
    own = vector_dimension(folders[spec.side], settings)
    if dimension != own:
        raise InputError(
            f"{dimension} dimensions, but {maker} makes vectors of {own}",
            where=shown(spec.vectors),
            remedy="pass the encoder that made them",
        )
    if files.is_pair:
        return maker, settings.normalized, pair_fingerprints(folders, spec.pooling)
    return maker, settings.normalized, fingerprints(folders[spec.side], settings)
