"""A sample of adopted vectors, encoded again: wrong ids, pooling, prompts or separators show at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from drtools import reporting, units
from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.formats.corpora import read_queries
from drtools.formats.corpus_store import open_store
from drtools.formats.ids import Ids
from drtools.formats.lines import shown
from drtools.formats.text_sources import text_in
from drtools.models.compute import Compute
from drtools.models.loader import load_for_encoding
from drtools.models.specs import EncoderSpec

if TYPE_CHECKING:
    from typing import Literal

ROWS = 16
APART = 0.05  # of a vector's length; float16 and bfloat16 round a hundred times less, or a few times less
BATCH_TOKENS = 8192


class Adopted(Protocol):
    """What is known of adopted vectors."""

    @property
    def model(self) -> str:
        """The encoder."""

    @property
    def document_model(self) -> str | None:
        """The encoder of documents, if it is another."""

    @property
    def pooling(self) -> str | None:
        """The pooling of an encoder that does not say it."""

    @property
    def side(self) -> Literal["document", "query"]:
        """What was encoded."""

    @property
    def corpus(self) -> str | None:
        """The file of the texts."""

    @property
    def title_separator(self) -> str | None:
        """What stands between a document's title and its text."""


def check_sample(spec: Adopted, maker: str, vectors: np.ndarray, ids: Ids) -> None:
    """Encode the texts of 16 rows again, and report those whose vectors are others, and ids without a text."""
    assert spec.corpus is not None
    rows = sorted({round(row) for row in np.linspace(0, len(vectors) - 1, min(ROWS, len(vectors)))})
    texts = _texts(spec, [ids[row] for row in rows])
    name = shown(spec.corpus)
    missing = [ids[row] for row in rows if ids[row] not in texts]
    reporting.notice(
        len(missing),
        f"{len(missing)} of {len(rows)} sampled ids are not in {name}, such as {missing[0] if missing else ''!r}; are "
        "the ids those of its rows?",
    )
    rows = [row for row in rows if ids[row] in texts]
    if not rows:
        return
    encoder = EncoderSpec(spec.model, spec.document_model, pooling=spec.pooling)
    try:
        made = load_for_encoding(encoder, Compute("cpu", "fp32", BATCH_TOKENS), spec.side)
    except InputError as error:
        reporting.notice(1, f"no row was encoded again, for {maker} could not be loaded ({error.message})")
        return
    expected, _ = encode_texts(made, [texts[ids[row]] for row in rows], spec.side, Compute("cpu", "fp32", BATCH_TOKENS))
    found = np.asarray(vectors[rows], np.float32)
    lengths = np.linalg.norm(expected, axis=1).clip(min=1e-12)
    apart = np.linalg.norm(found - expected, axis=1) / lengths
    worst, other = int(apart.argmax()), int((apart > APART).sum())
    reporting.notice(
        other,
        f"{other} of {len(rows)} sampled vectors are not what {maker} makes of the texts in {name} (the one of "
        f"{ids[rows[worst]]!r} is {apart[worst]:.0%} of its length away); are these its ids, pooling, prompts and "
        "title separator?",
    )
    if not other:
        reporting.say(
            f"{units.counted(len(rows), 'sampled vector')} encoded again from {name}: the largest difference is "
            f"{apart[worst]:.2g} of a vector's length"
        )


def _texts(spec: Adopted, ids: list[str]) -> dict[str, str]:
    """Return the texts of ids, by id, as far as the corpus has them."""
    assert spec.corpus is not None
    if spec.side == "query":
        queries = read_queries(spec.corpus)
        return {each: queries[each] for each in ids if each in queries}
    store = open_store(spec.corpus)
    separator = " " if spec.title_separator is None else spec.title_separator
    return {each: text_in(store, each, separator) for each in ids if store.get(each) is not None}
