"""Pairs of a query and a document -> a teacher's raw logits, through the score cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from drtools.retrieval.encoding import Computing


class Teacher:
    """One cross-encoder, or several whose logits are averaged. `name` is what examples' scored_by records: name@fingerprint, joined by +.

    A document's text may hold the special tokens of `tokenizer` (that of the first) as they are written, `[SEP]` or `<mask>`: they
    become special tokens of the second segment, in each teacher its own.
    """

    name: str
    tokenizer: object
    max_document_tokens: int  # where a document is cut if a pair has no limit of its own; without special tokens

    def scores(self, pairs: Sequence[tuple[str, str]], limits: Sequence[int | None] | None = None,
               on_batch: Callable[[int], None] | None = None) -> np.ndarray:
        """Return the raw logits float32 [N] of (query text, document text), in their order.

        `limits` says of each pair how many tokens its document may have, None: as always. What is scored is kept in the
        cache after each batch, and what is there is not scored again. `on_batch` is told how many pairs are done besides.
        """
        raise NotImplementedError

    def stream(self, windows: Iterable[Sequence[tuple[str, str]]]) -> Iterator[np.ndarray]:
        """Yield the scores of each window of pairs; the next window is tokenized meanwhile."""
        raise NotImplementedError


def load_teacher(names: Sequence[str], computing: Computing, *, max_query_tokens: int | None = None, max_document_tokens: int | None = None,
                 trust_remote_code: bool = False) -> Teacher:
    """Load cross-encoders by folder or hub name, as one teacher."""
    raise NotImplementedError
