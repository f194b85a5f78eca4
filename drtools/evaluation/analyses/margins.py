"""FGD's analyses (Zhou et al.): margins of relevant documents over fixed pairs (Figure 4), tuned weights (Figure 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.evaluation import pictures
from drtools.evaluation.analyses.base import Analysis
from drtools.evaluation.measures import mean
from drtools.formats.examples import Example
from drtools.formats.joins import Join
from drtools.formats.trec import Qrels, Run
from drtools.outputs import manifest
from drtools.units import counted

BINS = 40  # from -1 to 1

Scores = Mapping[str, Mapping[str, float]]  # of documents, by query


class MarginPairs(NamedTuple):
    """The (positive, negative) pairs of a query: each positive with each negative."""

    positives: list[str]
    negatives: list[str]


def pairs_of_examples(examples: Iterable[Example]) -> dict[str, MarginPairs]:
    """Return each example's positives with its negatives."""
    return {example.query_id: MarginPairs(example.positives, example.negatives) for example in examples}


def pairs_of_runs(runs: Mapping[str, Run], qrels: Qrels, min_rel: int, depth: int) -> dict[str, MarginPairs]:
    """Return, for each judged query, the relevant and other documents that every run has in its top `depth`."""
    found = {}
    for query, grades in qrels.items():
        tops = [list(run.get(query, ()))[:depth] for run in runs.values()]
        shared = set(tops[0]).intersection(*tops[1:])
        relevant = {document for document, grade in grades.items() if grade >= min_rel}
        listed = [document for document in tops[0] if document in shared]
        found[query] = MarginPairs(
            [document for document in listed if document in relevant],
            [document for document in listed if document not in relevant],
        )
    return found


def fixed_pairs(pairs: dict[str, MarginPairs], scores: Mapping[str, Scores]) -> dict[str, MarginPairs]:
    """Return the pairs whose documents have a score from every label, so that all labels have the same pairs."""
    documents = sum(len(pair) for each in pairs.values() for pair in each)
    for label, by_query in scores.items():
        joins = _joins(label, by_query, pairs)
        lacking = sum(join.missing for join in joins)
        reporting.notice(
            lacking,
            f"{label}: {lacking:,} of {documents:,} documents of the pairs have no score; their pairs are left out "
            f"{_example(joins)}",
        )
    return {
        query: MarginPairs(
            *(
                [
                    document
                    for document in pair
                    if all(document in by_query.get(query, ()) for by_query in scores.values())
                ]
                for pair in each
            )
        )
        for query, each in pairs.items()
    }


def _joins(label: str, scores: Scores, pairs: Mapping[str, MarginPairs]) -> list[Join]:
    return [Join(scores.get(query, {}), label, chain(*each)) for query, each in pairs.items()]


def _example(joins: Iterable[Join]) -> str:
    return next((join.pair() for join in joins if join.missing), "")


def margins_of_query(scores: Mapping[str, float], pairs: MarginPairs) -> list[float]:
    """Return s(q, p) - s(q, n) of each pair of a query."""
    return [scores[positive] - scores[negative] for positive in pairs.positives for negative in pairs.negatives]


def score_range(scores: Scores, pairs: Mapping[str, MarginPairs]) -> float:
    """Return the difference between the highest and the lowest score of the pairs' documents over all queries."""
    found = [scores[query][document] for query, each in pairs.items() for pair in each for document in pair]
    return max(found) - min(found) if found else 0.0


def analyse_margins(scores: Mapping[str, Scores], pairs: dict[str, MarginPairs], where: str, folder: Path) -> Analysis:
    """Compare the margins of runs and vectors over the same pairs, as fractions of each one's range of scores.

    Plots a histogram of the pairs (margins.png). `where` says in messages where the pairs come from.
    """
    given, asked = pairs, len(pairs)
    pairs = fixed_pairs(pairs, scores)
    pairs = {query: each for query, each in pairs.items() if each.positives and each.negatives}
    if not pairs:
        example = _example(join for label, own in scores.items() for join in _joins(label, own, given))
        raise InputError(
            f"no query has both a relevant and another document {where}; do they belong together? {example}",
            where=", ".join(scores),
        )
    reporting.notice(
        asked - len(pairs),
        f"{asked - len(pairs):,} of {asked:,} queries have no relevant document, or no other, {where}; they have no "
        "margin",
    )
    by_query = {label: _shares(label, own, pairs, where) for label, own in scores.items()}
    by_pair = {label: [margin for margins in found.values() for margin in margins] for label, found in by_query.items()}
    told = {label: _summary(found, by_pair[label]) for label, found in by_query.items()}
    count = sum(len(each.positives) * len(each.negatives) for each in pairs.values())
    best = max(told, key=lambda label: told[label]["mean"])
    means = ", ".join(f"{one['mean']:.3f}" for one in told.values())
    pictures.draw_shares(
        folder / "margins.png",
        by_pair,
        BINS,
        f"Margin of relevant documents: {means} of the range of scores"
        if len(told) <= 3
        else f"{best} has the largest margin: {told[best]['mean']:.3f}",
        f"s(q, p) - s(q, n) of the same {count:,} pairs for all, as a share of each one's range of scores",
        "margin of a pair",
        low=-1.0,
        unit="pairs",
    )
    rows = [
        ["", "mean over queries", "mean over pairs", "relevant document not above"],
        *(
            [label, f"{one['mean']:.4f}", f"{one['mean_over_pairs']:.4f}", f"{one['not_above']:.1%}"]
            for label, one in told.items()
        ),
    ]
    title = (
        f"Margin of relevant documents as a share of the range of scores: {counted(count, 'pair')} of "
        f"{len(pairs):,} queries"
    )
    return Analysis("margins", title, rows, told)


def _summary(by_query: dict[str, list[float]], margins: list[float]) -> dict[str, Any]:
    """Return the entry of one label in analysis.json: means over queries and over pairs, and the histogram."""
    means = {query: sum(found) / len(found) for query, found in by_query.items()}
    edges = pictures.edges_of(-1.0, BINS)
    return {
        "mean": mean(means),
        "mean_over_pairs": sum(margins) / len(margins),
        "not_above": sum(margin <= 0 for margin in margins) / len(margins),
        "pairs": len(margins),
        "by_query": means,
        "histogram": {
            "edges": edges,
            "share_of_pairs": (np.histogram(margins, edges)[0] / len(margins)).tolist(),
        },
    }


def _shares(label: str, scores: Scores, pairs: dict[str, MarginPairs], where: str) -> dict[str, list[float]]:
    """Return the margins of each query's pairs as fractions of the range of scores."""
    whole = score_range(scores, pairs)
    if not isfinite(whole):
        raise InputError(
            "has an infinite score, so there is no range of scores", where=label, remedy="write the run again"
        )
    if not whole:
        raise InputError(
            f"all scores {where} are equal, so there is no range of scores to divide margins by",
            where=label,
            expected="a run whose scores differ",
        )
    return {
        query: [margin / whole for margin in margins_of_query(scores[query], each)] for query, each in pairs.items()
    }


def analyse_tuning(paths: dict[str, str], folder: Path) -> Analysis:
    """Plot the tuned measure over the weights that were tried, from the manifests of tuned runs (tuning.png)."""
    curves, measures = {}, set()
    for label, path in paths.items():
        record = manifest.read(path)
        if not (record.get("tried") and record.get("tuned_for")):
            raise InputError(
                "its manifest has no tried weights",
                where=path,
                expected=(
                    f"a run written by `search {param('multi_vector')} {param('tune')}` or `fuse {param('tune')}`"
                ),
            )
        curves[label] = sorted(map(tuple, record["tried"]))
        measures.add(record["tuned_for"])
    measure = " or ".join(sorted(measures))
    best = {label: max(curve, key=lambda pair: (pair[1], -pair[0])) for label, curve in curves.items()}
    title = f"{measure} is highest at {', '.join(dict.fromkeys(f'{weight:g}' for weight, _ in best.values()))}"
    pictures.draw_tuning(folder / "tuning.png", curves, title, measure)
    rows = [
        ["", "without", "best", "at"],
        *(
            [label, f"{dict(curves[label]).get(0.0, float('nan')):.4f}", f"{value:.4f}", f"{weight:g}"]
            for label, (weight, value) in best.items()
        ),
    ]
    return Analysis(
        "tuning",
        f"{measure} over the weight",
        rows,
        {label: {"best": best[label][0], "tried": curve} for label, curve in curves.items()},
    )
