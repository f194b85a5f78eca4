"""FGD's analyses.

By how much a relevant document stands above others (Figure 4), and a measure over a tuned weight (Figure 5).
"""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from pathlib import Path

from drtools import console, manifest
from drtools.errors import UserError
from drtools.evaluation import pictures
from drtools.evaluation.analyses import Analysis
from drtools.evaluation.measures import mean
from drtools.formats.trec import Qrels, Run


def asked(
    runs: dict[str, Run], qrels: Qrels, min_rel: int, depth: int, tuned: dict[str, str], folder: Path
) -> list[Analysis]:
    """Make the analyses that there are runs or tuned runs for."""
    return [
        *([margins(runs, qrels, min_rel, depth, folder)] if runs else []),
        *([tuning(tuned, folder)] if tuned else []),
    ]


def score_range(run: Run, depth: int) -> float:
    """Return the distance between the highest and the lowest score of all lists down to `depth`."""
    scores = [score for hits in run.values() for score in list(hits.values())[:depth]]
    return max(scores) - min(scores) if scores else 0.0


def margin(hits: dict[str, float], relevant: Collection[str], depth: int) -> float | None:
    """Return the mean over one list's pairs (relevant p, other n) of s(p) - s(n), down to `depth`.

    None without a pair.
    """
    top = list(hits.items())[:depth]
    positives = [score for document, score in top if document in relevant]
    negatives = [score for document, score in top if document not in relevant]
    if not positives or not negatives:
        return None
    return sum(positives) / len(positives) - sum(negatives) / len(negatives)


def margins(runs: dict[str, Run], qrels: Qrels, min_rel: int, depth: int, folder: Path) -> Analysis:
    """Measure the margins of runs as shares of each run's range of scores.

    Mean over queries, histogram, margins.png.
    """
    relevant = {
        query: {document for document, grade in grades.items() if grade >= min_rel} for query, grades in qrels.items()
    }
    values: dict[str, dict[str, float]] = {}
    for label, run in runs.items():
        whole = score_range(run, depth)
        if not isfinite(whole):
            raise UserError(f"{label}: has an infinite score, of which no margin is a share; write the run again")
        found = {query: margin(run.get(query, {}), documents, depth) for query, documents in relevant.items()}
        if not whole and any(value is not None for value in found.values()):
            raise UserError(
                f"{label}: all scores in its top {depth:,} are equal, so that there is no range of scores to take "
                "margins as shares of; expected a run whose scores differ"
            )
        without = sum(value is None for value in found.values())
        console.notice(
            without,
            f"{label}: {without:,} of {len(found):,} queries have no relevant document, or nothing else, in their top "
            f"{depth:,}; they have no margin",
        )
        values[label] = {query: value / whole for query, value in found.items() if value is not None}
        if not values[label]:
            raise UserError(
                f"{label}: no query has a relevant document and another in its top {depth:,}; do the run and the "
                "judgements belong together?"
            )
    means = {label: mean(by_query) for label, by_query in values.items()}
    best = max(means, key=means.__getitem__)
    title = (
        f"Margin of relevant documents: {', '.join(f'{value:.3f}' for value in means.values())} of the range of scores"
        if len(means) <= 3
        else f"{best} has the largest margin: {means[best]:.3f}"
    )
    pictures.draw_shares(
        folder / "margins.png",
        {label: list(by_query.values()) for label, by_query in values.items()},
        40,
        title,
        f"mean of s(q, p) - s(q, n) over the pairs in a query's top {depth:,}, as a share of the run's range of scores",
        "margin of a query",
        low=-1.0,
    )
    rows = [
        ["", "margin", "queries"],
        *([label, f"{value:.4f}", f"{len(values[label]):,}"] for label, value in means.items()),
    ]
    return Analysis(
        "margins",
        f"Margin of relevant documents in the top {depth:,}, mean over queries",
        rows,
        {label: {"mean": means[label], "by_query": values[label]} for label in values},
    )


def tuning(paths: dict[str, str], folder: Path) -> Analysis:
    """Draw the measure that a weight was tuned for over the weights that were tried, out of tuned runs' manifests.

    Tuning.png.
    """
    curves, measures = {}, set()
    for label, path in paths.items():
        record = manifest.read(path)
        if not (record.get("tried") and record.get("tuned_for")):
            raise UserError(
                f"{path}: its manifest holds no weights that were tried; expected a run that `search --multi-vector "
                "--tune` or `fuse --tune` wrote"
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
