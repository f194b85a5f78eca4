"""Turn vectors of another program into a vectors folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drtools import reporting
from drtools.encoding.samples import check_sample
from drtools.errors import InputError, param
from drtools.formats.foreign_vectors import open_foreign, read_ids
from drtools.formats.lines import shown
from drtools.formats.npy_vectors import IdSource, copy_ids, copy_rows
from drtools.formats.vectors import EncodedManifest, create_array
from drtools.models.settings import fingerprints, vector_dimension
from drtools.models.sides import pair_fingerprints, read_encoder
from drtools.models.specs import EncoderSpec

if TYPE_CHECKING:
    from drtools.outputs.work import Work


@dataclass(frozen=True)
class AdoptionSpec:
    """Vectors [N, D] of another program, the ids of their rows, and the encoder that made them.

    `document_model` is the encoder of documents if it is a different one. Without a `dtype`, numbers keep theirs,
    except that float64 becomes float32. `ids` is None for files that hold ids. `columns` and `raw_dtype` are the
    dimension and the type of a file of numbers alone. With a `corpus` (for queries, their file) a sample of rows is
    encoded again; `title_separator` stands between a document's title and its text.
    """

    vectors: str
    ids: str | None
    model: str
    document_model: str | None = None
    pooling: str | None = None
    side: Literal["document", "query"] = "document"
    corpus: str | None = None
    dtype: Literal["float16", "float32"] | None = None
    columns: int | None = None
    raw_dtype: Literal["float16", "float32"] | None = None
    title_separator: str | None = None


def adopt(work: Work, spec: AdoptionSpec) -> EncodedManifest:
    """Write the vectors and their ids into the folder of `work`. Returns their manifest."""
    vectors = shown(spec.vectors)
    array, own_ids = open_foreign(spec.vectors, spec.columns, spec.raw_dtype)
    count, dimension = array.shape
    maker, normalized, known = encoder_of(spec, dimension)
    source = _ids_of(spec, own_ids, count)
    row_ids = copy_ids(source, work.path)
    if len(row_ids) != count:
        raise InputError(
            f"{len(row_ids):,} ids for the {count:,} rows of {vectors}",
            where=source.name,
            expected=f"one {source.word} for each row, in the same order",
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
    if spec.corpus:
        check_sample(spec, maker, into, row_ids)
    return EncodedManifest(
        side=spec.side,
        count=count,
        dimension=dimension,
        dtype=kept,
        normalized=of_length_one == count,
        model=spec.model,
        document_model=spec.document_model,
        corpus=shown(spec.corpus) if spec.corpus else None,
        title_separator=spec.title_separator,
        max_tokens=None,
        query_fingerprint=known["query"],
        document_fingerprint=known["document"],
    )


def _ids_of(spec: AdoptionSpec, own: IdSource | None, count: int) -> IdSource:
    """Return the rows' ids: those in the file of the vectors, or those of a file of their own."""
    if own is not None and spec.ids is not None:
        raise InputError(
            f"{shown(spec.vectors)} holds the ids of its rows", where=param("ids"), remedy="leave the flag out"
        )
    if own is not None:
        return own
    if spec.ids is None:
        raise InputError(
            "the file holds no ids of its rows", where=shown(spec.vectors), remedy=f"use {param('ids')} to name them"
        )
    return read_ids(spec.ids, count)


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
