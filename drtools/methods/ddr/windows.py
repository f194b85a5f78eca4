"""Count the windows of documents, and keep the tokens that this needs."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.methods.ddr.masking import BLOCK, corpus_texts
from drtools.methods.ddr.token_file import IDS, KINDS, STARTS
from drtools.methods.ddr.whole_words import kinds_of
from drtools.outputs.disk import flush_to_disk
from drtools.units import bytes_as_words

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.methods.ddr.masking import Masker

CHARACTERS_A_TOKEN = 3  # [ours] a low estimate, to leave room on the disk


def count_windows(
    store: CorpusStore, masker: Masker, title_separator: str, folder: Path | None = None
) -> np.ndarray:  # -> int32 [N]
    """Return the number of windows of each document. This tokenizes the whole corpus once.

    The tokens are written into `folder`, if there is room for them. `starts.npy` is written last.
    """
    counts, starts = np.empty(len(store), np.int32), np.zeros(len(store) + 1, np.int64)
    small = len(masker.tokenizer) <= 1 << 16
    if folder is not None:
        folder = _with_room(folder, store, (2 if small else 4) + masker.whole_words)
    with reporting.progress("counting windows", len(store), "documents") as progress, ExitStack() as files:
        ids_file = files.enter_context(open(folder / IDS, "wb")) if folder else None
        kinds_file = files.enter_context(open(folder / KINDS, "wb")) if folder and masker.whole_words else None
        for first in range(0, len(store), BLOCK):
            rows = range(first, min(first + BLOCK, len(store)))
            tokens = masker.read(corpus_texts(store, rows, title_separator))
            counts[first : rows.stop] = masker.windows(tokens)
            starts[first + 1 : rows.stop + 1] = tokens.lengths()
            if ids_file:
                ids_file.write(np.concatenate(tokens.ids).astype(np.uint16 if small else np.uint32).tobytes())
            if kinds_file and tokens.words is not None:
                kinds_file.write(np.concatenate([kinds_of(words) for words in tokens.words]).tobytes())
            progress.advance(len(rows))
    if folder:
        for name in (IDS, *([KINDS] if kinds_file else [])):
            flush_to_disk(folder / name)
        np.save(folder / STARTS, np.cumsum(starts), allow_pickle=False)
        flush_to_disk(folder / STARTS)
    return counts


def _with_room(folder: Path, store: CorpusStore, bytes_each: int) -> Path | None:
    """Return the folder, made empty, if the disk has room for the tokens; otherwise report it."""
    shutil.rmtree(folder, ignore_errors=True)
    needed, free = bytes_each * store.characters / CHARACTERS_A_TOKEN, shutil.disk_usage(folder.parent).free
    if needed > free / 2:
        reporting.say(
            f"note: the tokens of the corpus would take up to {bytes_as_words(int(needed))} of the "
            f"{bytes_as_words(free)} that are free beside the output, so documents are tokenized at each visit"
        )
        return None
    folder.mkdir()
    return folder
