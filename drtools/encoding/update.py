"""Reuse the vectors of an earlier encoding for texts that have not changed.

On a processor, the result equals a full encoding, bit for bit (except bfloat16 with AMX), since `encode_tokens` gives a
text the same vector whatever is encoded with it. This needs the same machine and the same torch version. It is tested
by encoding some of the reused texts again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.dropped import check_dropped
from drtools.formats.piece_vectors import PieceVectors, open_pieces
from drtools.formats.row_digests import TEXT, RowsByDigest, digests_of_texts, open_texts
from drtools.formats.vectors import PARTS, EncodedManifest, maker_of, open_vectors

if TYPE_CHECKING:
    from drtools.formats.text_sources import DocumentTexts, QueryTexts

TRIED = 16  # [ours] texts that are encoded again
# [ours] relative to a vector's length; bfloat16 and float32 differ by at most .013 (cosine .99992), encoders by 1
LARGEST_DIFFERENCE = 0.05
LARGEST_IN_INT8 = 0.2  # [ours] int8 and float32 differ by about .08, and an input near a half is rounded either way
SETTINGS = {
    "side": f"{param('documents')} or {param('queries')}",
    "title_separator": param("title_separator"),
    "max_tokens": param("max_{side}_tokens"),
    "precision": param("precision"),
    "dtype": param("dtype"),
}


def check_missing(folder: str, texts: DocumentTexts | QueryTexts, allowed: float) -> None:
    """Report ids of an earlier folder that are missing now. Raises InputError for more than a share `allowed`."""
    old = open_vectors(folder)
    if old.manifest["side"] == texts.side:  # a different side is refused with the other settings
        check_dropped(folder, len(old.ids), old.ids, texts.known_ids(), texts.path, allowed, texts.side)


class OldVectors:
    """A finished vectors folder whose rows are reused for equal texts.

    `now` is the manifest of the new folder.
    """

    def __init__(self, folder: str, now: EncodedManifest) -> None:
        opened = open_vectors(folder)
        if (opened.path / PARTS).exists():
            raise InputError(
                "vectors joined from two folders",
                where=folder,
                remedy="update each of the two, then join them again with concat-spar",
            )
        self.path, self.array, self.manifest = opened.path, opened.array, opened.manifest
        self.texts = open_texts(opened.path)
        self._refuse_others(now.record())
        if self.texts.dtype != np.dtype(TEXT) or len(self.texts) != len(self.array):
            raise InputError(
                (
                    f"texts.npy does not match its {len(self.array):,} vectors; the folder was damaged, make it again "
                    f"without {param('update')}"
                ),
                where=folder,
            )
        self.pieces = open_pieces(self.path, len(self.array)) if now.pieces else None
        self.rows = RowsByDigest(self.texts["digest"])
        self.to_try = TRIED

    def _refuse_others(self, now: dict[str, Any]) -> None:
        then, side = self.manifest, now["side"]
        cut_then, cut_now = then.get("pieces") or {}, now["pieces"] or {}
        if bool(cut_then) != bool(cut_now):
            raise InputError(
                (
                    f"made {('with' if cut_then else 'without')} {param('pieces')}; "
                    f"{('pass it too' if cut_then else 'leave it out')}, or encode everything without {param('update')}"
                ),
                where=self.path,
            )
        found = [(flag.format(side=side), then[name], now[name]) for name, flag in SETTINGS.items()]
        found += [(param(name), cut_then[name], value) for name, value in cut_now.items()]
        for flag, value_then, value_now in found:
            if value_then != value_now:
                raise InputError(
                    f"made with another {flag} ({value_then!r} then, {value_now!r} now)",
                    where=self.path,
                    remedy=f"use the setting that it was made with, or encode everything without {param('update')}",
                )
        if then[f"{side}_fingerprint"] != now[f"{side}_fingerprint"]:
            raise InputError(
                f"made by another encoder ({maker_of(then)}) than {maker_of(now)}",
                where=self.path,
                remedy=f"use the one that made it, or encode everything without {param('update')}",
            )

    def find(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the digests uint8 [N, 16] of texts and the row of each text, -1 for a new text."""
        digests = digests_of_texts(texts)
        return digests, self.rows.find(digests)

    def choose(self, rows: np.ndarray) -> np.ndarray:
        """Return places in `rows` [N] of texts to encode again, evenly spread over those with a row."""
        found = np.flatnonzero(rows >= 0)
        chosen: np.ndarray = found[np.unique(np.linspace(0, len(found) - 1, min(self.to_try, len(found))).astype(int))]
        self.to_try -= len(chosen)
        return chosen

    def compare(self, rows: np.ndarray, again: np.ndarray, promised: bool, pieces: PieceVectors | None = None) -> None:
        """Compare the stored vectors of rows [N], and those of their pieces, with the vectors of now [N, D].

        Different bits are noted; they are a notice if equal bits are `promised`. Raises InputError if another encoder
        made the stored vectors.
        """
        if not len(rows):
            return
        then = np.asarray(self.array[rows])
        if pieces:
            assert self.pieces is not None, "both folders have pieces, or neither has"
            before = self.pieces.take(rows)
            if not np.array_equal(before.starts, pieces.starts):
                raise InputError(
                    (
                        "its documents have other pieces than the same texts have now; the folder was damaged, "
                        f"encode everything without {param('update')}"
                    ),
                    where=self.path,
                )
            rows = np.concatenate([rows, np.repeat(rows, np.diff(before.starts[::2]))])
            then, again = np.concatenate([then, before.array]), np.concatenate([again, pieces.array])
        others = int((then != again).any(axis=1).sum())
        apart = np.abs(then.astype(np.float32) - again.astype(np.float32))
        relative = np.linalg.norm(apart, axis=1) / np.maximum(np.linalg.norm(then.astype(np.float32), axis=1), 1e-9)
        if relative.max() > (LARGEST_IN_INT8 if self.manifest["precision"] == "int8" else LARGEST_DIFFERENCE):
            raise InputError(
                (
                    f"row {int(rows[relative.argmax()])} is not what the encoder makes of its text now (they differ by "
                    f"{relative.max():.2f} of its length)"
                ),
                where=self.path,
                remedy=f"encode everything without {param('update')}",
            )
        found = (
            f"{others} of {len(rows)} {'texts and pieces' if pieces else 'texts'} of {self.path} "
            f"differ in their bits when they are encoded again, by at most {apart.max():.2g}"
        )
        if promised:
            reporting.notice(
                others,
                f"{found}: another machine or version, or a GPU, made one of them; the result equals a full encoding "
                "up to that difference, not bit for bit",
            )
        elif others:
            reporting.say(
                f"note: {found}, since on this device they depend on the rest of the batch; the result equals a full "
                "encoding up to that difference, not bit for bit"
            )

    def count_new(self, texts: DocumentTexts | QueryTexts, chunk: int) -> int:
        """Return how many of the texts have to be encoded."""
        return sum(
            int((self.find(texts.slice(start, start + chunk)[1])[1] < 0).sum()) for start in range(0, len(texts), chunk)
        )
