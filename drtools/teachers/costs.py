"""What the scoring of pairs by a teacher costs, from the first of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from drtools.costs import Costs, Forecast, peak_bytes, say_costs
from drtools.encoding.loop import encode_tokens
from drtools.errors import DryRunDone
from drtools.models.pair_tokens import tokenize_pairs
from drtools.teachers.windows import Pair

if TYPE_CHECKING:
    from drtools.teachers.scoring import Teacher

WITHOUT_CACHE = "less if scores are in the cache"


def say_costs_of_pairs(
    teacher: Teacher,
    pairs: Sequence[Pair],
    limits: Sequence[int | None],
    total: int,
    disk: float | None,
    dry_run: bool,
) -> Forecast:
    """Report about how many pairs there are, and their tokens; a dry run scores these pairs and raises DryRunDone.

    Returns the forecast of a real run, in tokens of all teachers. Scores of a dry run are not cached. Pairs whose
    scores are in the cache take no time in a real run.
    """
    tokens = [tokenize_pairs(each.encoder, teacher.in_words_of(each, pairs), limits) for each in teacher.scorers]
    sample = ""
    if len(pairs):
        mean, cut = tokens[0].lengths.mean(), tokens[0].truncated / len(pairs)
        sample = f"from the first {len(pairs)}: {mean:.0f} tokens a pair, {cut:.0%} of the documents cut"
    say_costs(Costs(f"about {total:,} pairs to score, or to find in the cache", sample))
    if not dry_run:
        all_tokens = sum(float(each.lengths.sum()) for each in tokens)
        return Forecast(all_tokens / max(1, len(pairs)) * total, disk, WITHOUT_CACHE)
    seconds = 0.0
    for scorer, each in zip(teacher.scorers, tokens, strict=True):
        into = np.empty((len(pairs), 1), np.float32)
        encode_tokens(scorer.encoder, tokenize_pairs(scorer.encoder, pairs[:8], limits[:8]), scorer.computing, into[:8])
        started = time.monotonic()
        encode_tokens(scorer.encoder, each, scorer.computing, into)
        seconds += (time.monotonic() - started) / max(1, len(pairs)) * total
    say_costs(Costs(memory=peak_bytes(), disk=disk, seconds=seconds, time=WITHOUT_CACHE))
    raise DryRunDone
