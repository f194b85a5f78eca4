"""Batches for ADAM: queries with a positive, negatives, dark examples, and the teacher's scores.

Every process draws the whole batch, and tokenizes and scores its own share of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from drtools.errors import param
from drtools.formats.dark_items import KINDS, documents_of
from drtools.methods.adam.dark import Special, asked_text, dark_text, is_cut, reinforced_tokens, special_of_encoder
from drtools.models.tokens import Tokens
from drtools.randomness import generator
from drtools.training.distributed import Shares, single_share
from drtools.training.memory import Separation
from drtools.training.sampling import EpochSampler, ExampleSource, Visit, draw

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair
    from drtools.training.examples import RaggedArray, TrainingExamples
    from drtools.training.usable_rows import DarkRow

EXAMPLES_A_COUNT = 20_000  # examples that are counted together


class Scorer(Protocol):
    """A scorer of pairs of texts, such as a teacher."""

    def scores(self, pairs: Sequence[tuple[str, str]], limits: Sequence[int | None]) -> np.ndarray:
        """Return the scores float32 [N]."""


class Form(NamedTuple):
    """Which items are listed for a query.

    `kinds` are those of its dark examples. `negatives` is the maximum number drawn at each visit, None for all.
    `random_negatives` draws documents of the corpus instead of the query's own negatives.
    """

    kinds: tuple[str, ...] = KINDS
    negatives: int | None = None
    random_negatives: bool = False


class Listed(NamedTuple):
    """The items that a visit trains on, by rows of the corpus.

    They are the positive, m negatives and dark items, with the teacher's scores [1 + m + dark], NaN if there is none.
    """

    positive: int
    negatives: list[int]
    dark: list[DarkRow]
    scores: np.ndarray

    @property
    def items(self) -> list[int | DarkRow]:
        """All of them, in the order of a batch's columns."""
        return [self.positive, *self.negatives, *self.dark]


class AskedPairs(NamedTuple):
    """The pairs for a teacher to score.

    (query text, document text) [N], and the maximum number of tokens of each document without special ones; None is
    the usual one.
    """

    texts: list[tuple[str, str]]
    limits: list[int | None]


class AdamBatch(NamedTuple):
    """B queries of all processes, and the lists of their documents.

    `tokens` and `counts` are those of the loop: this process's share, and the number of texts of each process. The
    sides are `query`, `document` (positives, negatives, noisy positives) and, if there are any, `reinforced`. `columns`
    int64 [B, K] has the places of each query's positive, negatives and dark items among all documents, which are
    followed by the reinforced texts. `is_own` bool [B, K] is true for the positive and the negatives, `is_dark` for the
    dark items; both are false for padding. `teacher` float32 [b, K] has the examples' scores for the queries of this
    process. Otherwise `asked` has the pairs for a teacher to score, in the order of the lists. A `share` of the queries
    is distilled at this `step`.
    """

    tokens: dict[str, Tokens]
    counts: dict[str, Sequence[int]]
    columns: np.ndarray
    is_own: np.ndarray
    is_dark: np.ndarray
    teacher: np.ndarray
    share: float
    step: int
    asked: list[AskedPairs] | None = None


def list_visit(visit: Visit, form: Form) -> Listed:
    """Return the items that a visit trains on: a positive, negatives drawn for this visit, and their dark items.

    The positive is that of the example's dark items, or else one is drawn. Negatives are in the order of the example.
    """
    examples, random = visit.source.examples, generator(*visit.seed)
    drawn = (
        draw(visit, form.negatives or 0, random, among_all=True) if form.random_negatives else draw(visit, 0, random)
    )
    every = examples.dark[visit.at] if examples.dark else []
    positive, score = drawn.positive, drawn.positive_score
    known = examples.positives[visit.at].tolist()
    if (
        every and every[0].positive in known
    ):  # the positive of the whole example, so that every form trains on the same one
        positive, place = every[0].positive, known.index(every[0].positive)
        score = float("nan") if examples.positive_scores is None else float(examples.positive_scores[visit.at][place])
    if form.random_negatives:
        negatives = [row for row in drawn.negatives.tolist() if row not in known]
        scores = [float("nan")] * len(negatives)
    else:
        pool = examples.negatives[visit.at]
        places = np.sort(random.permutation(len(pool))[: form.negatives])
        negatives = pool[places].tolist()
        scores = (
            [float("nan")] * len(negatives)
            if examples.negative_scores is None
            else examples.negative_scores[visit.at][places].tolist()
        )
    dark = [item for item in every if item.kind in form.kinds and (item.kind == "noisy" or item.negative in negatives)]
    return Listed(positive, negatives, dark, np.array([score, *scores, *(item.score for item in dark)], np.float32))


class AdamBatches:
    """The endless sequence of batches, a function of (seed, step).

    `share_of(step)` is the share of queries distilled on. With `teacher`, the special tokens and lengths of a teacher's
    dark items, batches hold the pairs for it to score. `name` is the student's name in messages.
    """

    def __init__(
        self,
        sources: Sequence[ExampleSource],
        model: Encoder | EncoderPair[Encoder],
        form: Form,
        *,
        name: str,
        batch_queries: int,
        seed: int,
        share_of: Callable[[int], float],
        teacher: Callable[[str, int], Special] | None = None,
        shares: Shares = single_share,
        rank: int = 0,
    ) -> None:
        self.visits, self.model, self.form = EpochSampler(sources, batch_queries, seed), model, form
        self.share_of, self.teacher, self.shares, self.rank = share_of, teacher, shares, rank
        self.epoch_queries = self.visits.epoch_queries
        self.special = special_of_encoder(model.of("document"), form.kinds, name, f", or {param('without')} reinforced")

    def __call__(self, step: int) -> AdamBatch:
        """Draw the batch of a step, look up, tokenize and score this process's share of it."""
        every = [(visit, list_visit(visit, self.form)) for visit in self.visits(step)]
        texts: dict[str, list[tuple[Visit, int | DarkRow]]] = {"document": [], "reinforced": []}
        places = [[self._place(texts, visit, item) for item in listed.items] for visit, listed in every]
        shares = {
            "query": self.shares(len(every)),
            **{side: self.shares(len(items)) for side, items in texts.items() if items},
        }
        document = self.model.of("document")
        longest = {"document": document.settings.max_document_tokens, "reinforced": reinforced_tokens(document)}
        mine = every[shares["query"][self.rank]]
        tokens = {"query": self.model.of("query").tokenize([visit.query for visit, _ in mine], "query")}
        for side in (side for side in texts if side in shares):
            written = [self._text(*item) for item in texts[side][shares[side][self.rank]]]
            tokens[side] = document.tokenize_prepared([text for text, _ in written], side, longest[side])
            tokens[side].cut[:] |= np.array([cut for _, cut in written], bool)
        counts: dict[str, Sequence[int]] = {
            side: [part.stop - part.start for part in parts] for side, parts in shares.items()
        }
        return AdamBatch(
            tokens,
            counts,
            *_lists(every, places, len(texts["document"])),
            padded([listed.scores for _, listed in mine], max(map(len, places))),
            self.share_of(step),
            step,
            [self._asked(*one) for one in mine] if self.teacher else None,
        )

    def _place(
        self, texts: dict[str, list[tuple[Visit, int | DarkRow]]], visit: Visit, item: int | DarkRow
    ) -> tuple[str, int]:
        side = "reinforced" if not isinstance(item, int) and item.kind == "reinforced" else "document"
        texts[side].append((visit, item))
        return side, len(texts[side]) - 1

    def _text(self, visit: Visit, row: int | DarkRow) -> tuple[str, bool]:
        """Return a text, and whether it was cut when it was made."""
        source, document = visit.source, self.model.of("document")
        if isinstance(row, int):
            return document.prepare(source.text(row)), False
        item = row.item(source.store.ids_at)
        texts = {each: document.prepare(source.text_of(each)) for each in documents_of(item)}
        return dark_text(item, source.examples.query_ids[visit.at], texts.__getitem__, self.special), is_cut(
            item, texts.__getitem__, self.special
        )

    def _asked(self, visit: Visit, listed: Listed) -> AskedPairs:
        source = visit.source
        plain = [(source.text(row), None) for row in (listed.positive, *listed.negatives)]
        assert self.teacher is not None, "only a teacher scores pairs"
        special = self.teacher(visit.query, self.special.room)
        dark = [
            asked_text(item.item(source.store.ids_at), source.examples.query_ids[visit.at], source.text_of, special)
            for item in listed.dark
        ]
        return AskedPairs([(visit.query, text) for text, _ in plain + dark], [limit for _, limit in plain + dark])


def _lists(
    every: list[tuple[Visit, Listed]], places: list[list[tuple[str, int]]], documents: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = padded(
        [[at + (documents if side == "reinforced" else 0) for side, at in place] for place in places],
        max(map(len, places)),
        np.int64,
    )
    own = np.array([[1 + len(listed.negatives)] for _, listed in every])
    lengths, at = np.array([[len(place)] for place in places]), np.arange(columns.shape[1])
    return columns, at < own, (own <= at) & (at < lengths)


def separation_of(batch: AdamBatch) -> Separation:
    """Return which query each text of a batch belongs to."""
    listed = batch.is_own | batch.is_dark
    owner = np.empty(int(listed.sum()), np.int64)  # each text is in one list
    owner[batch.columns[listed]] = np.nonzero(listed)[0]
    sides = [side for side in batch.tokens if side != "query"]
    ends = np.cumsum([len(batch.tokens[side].lengths) for side in sides])
    parts = dict(zip(sides, np.split(owner, ends[:-1]), strict=True))
    return Separation({"query": np.arange(len(listed)), **parts})


def padded(
    rows: Sequence[Sequence[float] | np.ndarray], length: int, dtype: type = np.float32
) -> np.ndarray:  # -> [B, length]
    """Return rows of numbers as one array, padded with 0."""
    array: np.ndarray = np.zeros((len(rows), length), dtype)
    for at, values in enumerate(rows):
        array[at, : len(values)] = values
    return array


def ask(teacher: Scorer, batch: AdamBatch) -> np.ndarray:  # -> float32 [b, K]
    """Return a teacher's scores of the batch's pairs, list by list."""
    assert batch.asked is not None, "batches made with a teacher"
    scores = teacher.scores(
        [pair for pairs in batch.asked for pair in pairs.texts],
        [limit for pairs in batch.asked for limit in pairs.limits],
    )
    ends = np.cumsum([len(pairs.texts) for pairs in batch.asked])
    return padded(np.split(scores, ends[:-1]) if len(ends) else [], batch.columns.shape[1])


@dataclass
class Supply:
    """The numbers of items that examples have for a form of training, counted before anything is drawn.

    `unscored` of the `items` that may be trained on have no score. `of_kind` is how many examples have a dark item of
    each kind, `without` how many have none of the kinds. `unpaired` of the `negatives` of examples with dark items have
    no reinforced item.
    """

    of_kind: Counter[str] = field(default_factory=Counter)
    unscored: int = 0
    items: int = 0
    without: int = 0
    unpaired: int = 0
    negatives: int = 0

    def count_scores(self, scores: np.ndarray) -> None:
        """Count items by their scores, nan if there is none."""
        self.items += len(scores)
        self.unscored += int(np.isnan(scores).sum())


def count_supply(examples: TrainingExamples, form: Form) -> Supply:
    """Count what examples have for a form of training."""
    supply = Supply()
    for start in range(0, len(examples), EXAMPLES_A_COUNT):
        _count_block(examples, form, start, min(start + EXAMPLES_A_COUNT, len(examples)), supply)
    return supply


def _count_block(examples: TrainingExamples, form: Form, start: int, end: int, supply: Supply) -> None:
    """Add the counts of the examples from `start` to before `end`."""
    negatives, pool_of = _part(examples.negatives, start, end)
    supply.count_scores(
        np.full(len(negatives), np.nan)
        if examples.negative_scores is None
        else _part(examples.negative_scores, start, end)[0]
    )
    firsts = np.full(end - start, -1)  # the positive of each example's dark items
    has = np.zeros(end - start, bool)
    if examples.dark is not None:
        positive, negative, _, _, score = (_part(lists, start, end)[0] for lists in examples.dark.fields)
        owner = _part(examples.dark.fields[0], start, end)[1]
        firsts[owner[::-1]] = positive[::-1]
        rows = max(negatives.max(initial=0), negative.max(initial=0)) + 1  # (example, row) becomes one number
        pool, pairs = pool_of * rows + negatives, owner * rows + negative
        of_kind = {"reinforced": (negative >= 0) & np.isin(pairs, pool), "noisy": negative < 0}
        for kind in form.kinds:
            with_kind = np.bincount(owner[of_kind[kind]], minlength=end - start) > 0
            supply.of_kind[kind] += int(with_kind.sum())
            supply.count_scores(score[of_kind[kind]])
            has |= with_kind
        darkened = pool[(firsts >= 0)[pool_of]]
        supply.negatives += len(darkened)
        supply.unpaired += len(darkened) - int(np.isin(darkened, pairs[of_kind["reinforced"]]).sum())
    supply.without += int((~has).sum())
    for at, first in enumerate(firsts.tolist(), start):
        supply.count_scores(_positives_to_score(examples, at, first))


def _part(lists: RaggedArray, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of lists from `start` to before `end`, and the list of each value, from 0."""
    starts = lists.starts[start : end + 1]
    return lists.flat[starts[0] : starts[-1]], np.repeat(np.arange(end - start), np.diff(starts))


def _positives_to_score(examples: TrainingExamples, at: int, dark_positive: int) -> np.ndarray:
    """Return the scores of the positives that may be trained on: that of the dark items, or else all."""
    if examples.positive_scores is None:
        return np.array([np.nan], np.float32)
    scores = examples.positive_scores[at]
    of_dark = examples.positives[at] == dark_positive
    return scores[of_dark][:1] if of_dark.any() else scores
