"""Scoring of (query, document) pairs by teachers, with the score cache."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from drtools import reporting
from drtools.encoding.loop import encode_tokens
from drtools.errors import InputError, param
from drtools.models.compute import place
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.cross_encoder_model import CrossEncoder
from drtools.models.loading import without_truncation
from drtools.models.pair_tokens import DOCUMENT_CUT, EMPTY, QUERY_CUT, PairTokens, tokenize_pairs
from drtools.models.specs import ReadingSpec
from drtools.models.tokens import separator_of
from drtools.teachers.score_cache import ScoreCache, pair_key
from drtools.teachers.windows import Pair

if TYPE_CHECKING:
    from drtools.models.compute import Compute

WINDOW_PAIRS = 10_000  # [ours] pairs that are sorted by length together
WRITTEN_AT_ONCE = 10_000  # pairs of a process, each batch by itself; then several batches together,
SECONDS_UNWRITTEN = 5.0  # since a page of the cache is written for each few pairs of a batch, and for many of several
ODDITIES = {  # {name of a count: (its bit in `PairTokens.odd`, its words)}
    "truncated": (DOCUMENT_CUT, "had a document that was cut"),
    "truncated_queries": (QUERY_CUT, "had a query that was cut"),
    "empty": (EMPTY, "have an empty query or document"),
}

Thing = TypeVar("Thing")  # what goes with a window and comes back with its scores


class Window(NamedTuple):
    """Pairs to score.

    `keys` of all [N]; `known` scores, and the flags `odd` of their pairs; the distinct keys `new` to compute here, and
    the `tokens` of their pairs.
    """

    keys: list[bytes]
    known: dict[bytes, float]
    odd: dict[bytes, int]
    new: list[bytes]
    tokens: PairTokens


class CachedScorer:
    """One cross-encoder with its cache of scores."""

    def __init__(self, encoder: CrossEncoder, name: str, computing: Compute) -> None:
        self.encoder, self.computing = encoder, computing
        fingerprint = encoder.fingerprint()
        self.name = f"{name}@{fingerprint}"
        self.cache = ScoreCache(f"{fingerprint}-{computing.precision}", name)
        self.counts: Counter[str] = Counter()
        self._unwritten: list[tuple[bytes, float, int]] = []
        self._written = 0.0  # when, by the monotonic clock

    def prepare(self, pairs: Sequence[Pair], limits: Sequence[int | None] | None, under_way: Iterable[bytes]) -> Window:
        """Look up cached scores, and tokenize pairs that are neither cached nor `under_way`."""
        limits = limits or [None] * len(pairs)
        keys = [pair_key(query, document, limit) for (query, document), limit in zip(pairs, limits, strict=True)]
        row_of = {key: row for row, key in enumerate(keys)}
        known = self.cache.known(list(row_of))
        seen = {*known, *under_way}
        new = [key for key in row_of if key not in seen]

        def tokens_of(keys: list[bytes]) -> PairTokens:
            rows = [row_of[key] for key in keys]
            return tokenize_pairs(self.encoder, [pairs[row] for row in rows], [limits[row] for row in rows])

        odd = self.cache.known_oddities(list(known))
        unread = [key for key in known if key not in odd]  # drtools 0.1.0 only stored their scores
        odd |= zip(unread, tokens_of(unread).odd.tolist(), strict=True)
        return Window(keys, known, odd, new, tokens_of(new))

    def finish(self, window: Window, on_batch: Callable[[int], None]) -> np.ndarray:  # -> float32 [N]
        """Compute new scores, save them batch by batch, and return all scores of a window."""
        computed = np.empty((len(window.new), 1), np.float32)

        def keep(rows: np.ndarray, tokens: int) -> None:
            keys, odd = [window.new[row] for row in rows.tolist()], window.tokens.odd[rows].tolist()
            self._unwritten += zip(keys, computed[rows, 0].tolist(), odd, strict=True)
            self.counts.update(computed=len(rows), tokens=tokens)
            if self.counts["computed"] <= WRITTEN_AT_ONCE or time.monotonic() - self._written > SECONDS_UNWRITTEN:
                self._write()
            on_batch(len(rows))

        try:
            encode_tokens(self.encoder, window.tokens, self.computing, computed, keep)
        finally:
            self._write()
        scores = window.known | dict(zip(window.new, computed[:, 0].tolist(), strict=True))
        odd = window.odd | dict(zip(window.new, window.tokens.odd.tolist(), strict=True))
        before = [key for key in dict.fromkeys(window.keys) if key not in scores]  # the window before computed these
        scores |= self.cache.known(before)
        odd |= self.cache.known_oddities(before)
        oddities = np.array([odd[key] for key in window.keys], np.uint8)  # of all: no count depends on the cache
        self.counts.update({name: int(((oddities & bit) > 0).sum()) for name, (bit, _) in ODDITIES.items()})
        return np.array([scores[key] for key in window.keys], np.float32)

    def _write(self) -> None:
        """Write what was scored since the last time into the cache."""
        scored, self._unwritten = self._unwritten, []
        if scored:
            self.cache.keep([(key, score) for key, score, _ in scored], [(key, odd) for key, _, odd in scored])
        self._written = time.monotonic()


class Teacher:
    """One cross-encoder, or several whose logits are averaged.

    `name` is what examples' scored_by records: name@fingerprint, joined by +.

    A document's text may contain special tokens of `tokenizer` (that of the first teacher) as text, such as `[SEP]` or
    `<mask>`. They become each teacher's own special tokens in the second segment. `max_query_tokens` and
    `max_document_tokens` are the numbers of tokens, without special ones, of a query and of a document after a long
    query that all teachers can read. `counts` has the pairs computed, their tokens, and how many of all pairs,
    including cached ones, were cut or empty.
    """

    def __init__(self, scorers: Sequence[CachedScorer]) -> None:
        self.scorers = scorers
        self.name = "+".join(scorer.name for scorer in scorers)
        encoders = [scorer.encoder for scorer in scorers]
        self.tokenizer = encoders[0].tokenizer
        self.max_query_tokens = min(encoder.max_query_tokens for encoder in encoders)
        self.max_document_tokens = min(
            encoder.max_pair_tokens - encoder.template.special - encoder.max_query_tokens for encoder in encoders
        )
        self.rendering = [
            without_truncation(encoder.tokenizer) for encoder in encoders
        ]  # texts are rendered in a thread, while the tokenizers themselves are set to cut

    @property
    def counts(self) -> Counter[str]:
        """The counts of all teachers so far."""
        return sum((scorer.counts for scorer in self.scorers), Counter[str]())

    def scores(
        self,
        pairs: Sequence[Pair],
        limits: Sequence[int | None] | None = None,
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> np.ndarray:
        """Return the raw logits float32 [N] of (query text, document text), in their order.

        `limits` has for each pair the maximum number of document tokens, None for the usual one. Scores are cached
        while they are computed, and cached pairs are not scored again. `on_batch` is called with the number of pairs
        just computed.
        """
        parts = [slice(start, start + WINDOW_PAIRS) for start in range(0, len(pairs), WINDOW_PAIRS)]
        windows = ((pairs[part], limits and limits[part], None) for part in parts)
        return np.concatenate([np.empty(0, np.float32), *(scores for _, scores in self.stream(windows, on_batch))])

    def stream(
        self,
        windows: Iterable[tuple[Sequence[Pair], Sequence[int | None] | None, Thing]],
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> Iterator[tuple[Thing, np.ndarray]]:
        """Yield (item, scores) for each window of (pairs, limits, item).

        The next window is read and tokenized in a thread meanwhile.
        """
        source = iter(windows)

        def prepare_next(before: list[Window] | None) -> tuple[Thing, list[Window]] | None:
            for pairs, limits, thing in source:
                return thing, [
                    scorer.prepare(self.in_words_of(scorer, pairs), limits, before[at].new if before else ())
                    for at, scorer in enumerate(self.scorers)
                ]
            return None

        with ThreadPoolExecutor(1) as ahead:
            prepared = ahead.submit(prepare_next, None)
            while found := prepared.result():
                thing, window = found
                prepared = ahead.submit(prepare_next, window)
                yield thing, self._finish(window, on_batch)

    def in_words_of(self, scorer: CachedScorer, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Replace the first teacher's separator and mask in texts by those of another teacher."""
        first, own = self.tokenizer, scorer.encoder.tokenizer
        words = {(separator_of(first), separator_of(own)), (first.mask_token, own.mask_token)}
        for theirs, ours in words:
            if theirs and ours and theirs != ours:
                pairs = [(query, document.replace(theirs, ours)) for query, document in pairs]
        return pairs

    def _finish(self, windows: list[Window], on_batch: Callable[[int], None]) -> np.ndarray:
        found = [scorer.finish(window, on_batch) for scorer, window in zip(self.scorers, windows, strict=True)]
        return found[0] if len(found) == 1 else np.array(found).mean(axis=0, dtype=np.float64).astype(np.float32)


def note_cuts(counts: Counter[str]) -> None:
    """Report scored pairs that were cut or empty."""
    for name, (_, words) in ODDITIES.items():
        reporting.notice(counts[name], f"{counts[name]:,} of the pairs {words}")


def load_teacher(
    names: Sequence[str],
    computing: Compute,
    *,
    max_query_tokens: int | None = None,
    max_document_tokens: int | None = None,
    trust_remote_code: bool = False,
    dropout: float | None = None,
    student_tokens: tuple[int, int] | None = None,
    reading: ReadingSpec = ReadingSpec(),
) -> Teacher:
    """Load cross-encoders by folder or hub name, as one teacher. `reading` says how language models read pairs.

    Lengths and dropout that are not given are each model's own. With `student_tokens`, the numbers of tokens without
    special ones, queries and documents are cut at the same length as by a student.
    """
    if not names:
        raise InputError("no teacher was given", remedy=f"use {param('teacher')} with a folder or a hub name")
    if len(set(names)) < len(names):
        raise InputError(
            "a teacher is named twice", where=f"{param('teacher')} {' '.join(names)}", remedy="name each once"
        )
    scorers = []
    for name in names:
        encoder = load_cross_encoder(name, trust_remote_code, dropout, reading, computing.precision)
        encoder.set_lengths(max_query_tokens, max_document_tokens)
        if student_tokens:
            encoder.read_like(*student_tokens)
        place(encoder, computing)
        scorers.append(CachedScorer(encoder, Path(name).resolve().name if Path(name).is_dir() else name, computing))
    return Teacher(scorers)
