"""Each analysis of the papers from its inputs: numbers for analysis.json, a table and a picture for a person."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypedDict

from drtools import reporting, units
from drtools.errors import InputError
from drtools.evaluation import curves as logs
from drtools.evaluation import overlap, pictures, score_histograms, soft_labels
from drtools.evaluation.measures import mean
from drtools.formats.examples import Example, read_examples
from drtools.formats.joins import Join
from drtools.formats.trec import Run

LONGEST_NAME = 26  # characters in a title; longer ones are cut in the middle


class Analysis(NamedTuple):
    """What was found: its key in analysis.json, what is seen in a sentence, rows of words, every number."""

    name: str
    title: str
    table: list[list[str]]
    numbers: dict[str, Any]


def short(name: str) -> str:
    """Return a name shortened for a title."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2 - 1]}…{name[-LONGEST_NAME // 2 :]}"


def check_queries(label: str, run: Run, asked: Mapping[str, object], words: str) -> int:
    """Report the queries that are not in a run and return their number; raise InputError if none is in it."""
    found = Join(run, label, asked)
    found.check(
        f"{label}: holds none of the {len(asked):,} queries; do the run and the other file belong together?",
        f"{label} lacks {found.missing:,} of {len(asked):,} queries; {words}",
    )
    return found.missing


def note_nothing_common(label: str, run: Run, name: str, lists: Mapping[str, Collection[str]]) -> None:
    """Report a run that lists none of the documents of other lists."""
    both = [query for query, documents in lists.items() if documents and run.get(query)]
    if both and not any(document in run[query] for query in both for document in lists[query]):
        pair = Join(run[both[0]], label, lists[both[0]]).pair()
        reporting.notice(1, f"{label} lists none of the documents of {name} {pair}; are they of the same collection?")


def likeness(runs: dict[str, Run], reference: Run, name: str, p: float, depth: int, folder: Path) -> Analysis:
    """Compare runs with a reference by rank-biased overlap down to `depth`.

    Mean over its queries, histogram, likeness.png.
    """
    if not reference:
        raise InputError("the run has no queries to compare with", where=name)
    values = {}
    for label, run in runs.items():
        check_queries(label, run, reference, f"their overlap with {name} is 0")
        note_nothing_common(label, run, name, reference)
        values[label] = {
            query: overlap.rank_biased_overlap(list(run.get(query, ()))[:depth], list(hits)[:depth], p)
            for query, hits in reference.items()
        }
    means = {label: mean(by_query) for label, by_query in values.items()}
    best = max(means, key=means.__getitem__)
    title = (
        f"{short(best)} is most similar to {short(name)}: RBO {means[best]:.2f}"
        if len(runs) > 1
        else f"RBO of {short(best)} with {short(name)}: {means[best]:.2f}"
    )
    pictures.draw_shares(
        folder / "likeness.png",
        {label: list(by_query.values()) for label, by_query in values.items()},
        20,
        title,
        f"rank-biased overlap, p = {p:g}, of the two lists of a query: 0 nothing in common, 1 the same",
        "rank-biased overlap of a query",
    )
    rows = [["", f"RBO, p = {p:g}"], *([label, f"{value:.4f}"] for label, value in means.items())]
    return Analysis(
        "likeness",
        f"Rank-biased overlap with {name}, mean over {units.counted(len(reference), 'query', 'queries')}",
        rows,
        {
            "reference": name,
            "p": p,
            "queries": len(reference),
            "runs": {label: {"mean": means[label], "by_query": values[label]} for label in runs},
        },
    )


def of_examples(paths: dict[str, str], runs: dict[str, Run], depth: int, bins: int, folder: Path) -> list[Analysis]:
    """Analyse the scores of examples (scores.png), and a teacher's scores as soft labels (soft-labels.png).

    With runs, also analyse which negatives are still hard (negatives.png).
    """
    kept = {label: list(read_examples(path)) for label, path in paths.items()}
    found = {label: score_histograms.scores_by_kind(examples) for label, examples in kept.items()}
    found = {label: kinds for label, kinds in found.items() if kinds}
    if not found and not runs:
        raise InputError(
            "the examples have no scores, and no run was given; mine-negatives and teacher-score write scores",
            where=", ".join(paths),
        )
    made = [_scores(found, bins, folder)] if found else []
    taught = {
        label: soft_labels.soft_labels(examples)
        for label, examples in kept.items()
        if any(example.scored_by for example in examples)
    }
    if any(taught.values()):
        made.append(_soft_labels({label: kinds for label, kinds in taught.items() if kinds}, folder))
    return [*made, _still_hard(kept, runs, depth, folder)] if runs else made


def _scores(files: dict[str, dict[str, list[float]]], bins: int, folder: Path) -> Analysis:
    edges, flat = score_histograms.histogram(
        {f"{label}\t{kind}": values for label, kinds in files.items() for kind, values in kinds.items()}, bins
    )
    counted = {label: {kind: flat[f"{label}\t{kind}"] for kind in kinds} for label, kinds in files.items()}
    told = {
        label: {kind: score_histograms.summary(values) for kind, values in kinds.items()}
        for label, kinds in files.items()
    }
    kinds = next(iter(told.values()))
    title = (
        "Mean score: " + ", ".join(f"{kind} {kinds[kind]['mean']:.3g}" for kind in list(kinds)[:2])
        if len(told) == 1
        else f"Scores in {len(told)} files of examples"
    )
    pictures.draw_scores(folder / "scores.png", edges, counted, title)
    rows = [["", "items", "mean", "deviation", *score_histograms.QUANTILES]]
    for label, kinds in told.items():
        rows += [
            [
                f"{label}  {kind}",
                f"{one['count']:,}",
                *(f"{one[name]:.3f}" for name in ("mean", "standard_deviation", *score_histograms.QUANTILES)),
            ]
            for kind, one in kinds.items()
        ]
    numbers = {
        "edges": edges,
        "files": {
            label: {kind: {**told[label][kind], "counts": counted[label][kind]} for kind in told[label]}
            for label in told
        },
    }
    return Analysis("scores", "Scores of examples", rows, numbers)


def _soft_labels(files: dict[str, dict[str, list[list[float]]]], folder: Path) -> Analysis:
    told = {
        label: {
            kind: {
                "mass": fmean(map(max, lists)),
                "evenness": fmean(map(soft_labels.evenness, lists)),
                "queries": len(lists),
            }
            for kind, lists in kinds.items()
        }
        for label, kinds in files.items()
    }
    named = {
        kind if len(files) == 1 else f"{label}: {kind}": [max(shares) for shares in lists]
        for label, kinds in files.items()
        for kind, lists in kinds.items()
    }
    first = next(iter(told.values()))
    words = " ".join(
        f"{one['mass']:.2f} {'with dark examples' if 'dark' in kind else 'for the positive and its negatives,'}"
        for kind, one in list(first.items())[:2]
        if "positive" in kind
    )
    pictures.draw_shares(
        folder / "soft-labels.png",
        named,
        20,
        f"Soft label's mass on its top item: {words.rstrip(',')}",
        "the teacher's softmax over a query's list: 1 is the same as a hard label",
        "mass on the top item of a query's list",
    )
    rows = [["", "list", "mass", "evenness", "queries"]]
    rows += [
        [label, kind, f"{one['mass']:.4f}", f"{one['evenness']:.4f}", f"{one['queries']:,}"]
        for label, kinds in told.items()
        for kind, one in kinds.items()
    ]
    return Analysis(
        "soft_labels",
        "The teacher's softmax over a query's list: mass on the top item, and evenness (entropy / maximum), means "
        "over queries",
        rows,
        told,
    )


def agreement(lists: dict[str, dict[str, list[tuple[list[float], list[float], float]]]], folder: Path) -> Analysis:
    """Compare students with the teacher, and plot Kendall's tau (agreement.png).

    `lists` is {student: {kind of list: (teacher's scores, student's scores, scale)}}.
    """
    found = {
        student: {kind: [soft_labels.agreement(*one) for one in kept] for kind, kept in kinds.items()}
        for student, kinds in lists.items()
    }
    told = {student: {kind: _agreed(pairs) for kind, pairs in kinds.items()} for student, kinds in found.items()}
    rows = [["", "list", "mean KL(teacher || student)", "Kendall's tau", "queries"]]
    rows += [
        [
            student,
            kind,
            f"{one['divergence']:.4f}",
            "" if one["tau"] is None else f"{one['tau']:.4f}",
            f"{one['queries']:,}",
        ]
        for student, kinds in told.items()
        for kind, one in kinds.items()
    ]
    kind = [kind for kind in next(iter(told.values())) if all(kind in kinds for kinds in told.values())][
        -1
    ]  # the longest lists that all have
    drawn = {
        student: taus for student, kinds in found.items() if (taus := [tau for _, tau in kinds[kind] if tau == tau])
    }
    if drawn:
        best = max(drawn, key=lambda student: fmean(drawn[student]))
        pictures.draw_shares(
            folder / "agreement.png",
            drawn,
            40,
            f"{short(best)}: Kendall's tau with the teacher {fmean(drawn[best]):.2f}",
            f"order of a query's list ({kind}) by student and teacher: 1 the same, 0 unrelated, -1 the reverse",
            "Kendall's tau of a query's list",
            low=-1.0,
        )
    return Analysis("agreement", "Students and their teacher, mean over queries", rows, told)


class Agreed(TypedDict):
    """Agreement of a student's lists with the teacher's, as means over queries; `tied` lists have no tau."""

    divergence: float
    tau: float | None
    queries: int
    tied: int


def _agreed(pairs: list[tuple[float, float]]) -> Agreed:
    taus = [tau for _, tau in pairs if tau == tau]  # nan where all scores are equal
    return {
        "divergence": fmean(divergence for divergence, _ in pairs),
        "tau": fmean(taus) if taus else None,
        "queries": len(pairs),
        "tied": len(pairs) - len(taus),
    }


def _still_hard(files: dict[str, list[Example]], runs: dict[str, Run], depth: int, folder: Path) -> Analysis:
    values: dict[str, dict[str, float]] = {}
    for file, examples in files.items():
        asked = {example.query_id: example for example in examples if example.negatives}
        if not asked:
            raise InputError("no query has a negative to look for in a run", where=file)
        for label, run in runs.items():
            check_queries(label, run, asked, f"they are left out of the share of {file}'s negatives")
            named = {query: [*example.positives, *example.negatives] for query, example in asked.items()}
            note_nothing_common(label, run, file, named)
            name = label if len(files) == 1 else file if len(runs) == 1 else f"{file} in {label}"
            values[name] = {
                query: overlap.share_still_hard(example.negatives, list(run[query]), set(example.positives), depth)
                for query, example in asked.items()
                if query in run
            }
    means = {label: mean(by_query) for label, by_query in values.items()}
    share = " to ".join(f"{value:.0%}" for value in dict.fromkeys([min(means.values()), max(means.values())]))
    title = (
        f"{share} of the negatives are in the top {depth:,}{f' of {short(next(iter(runs)))}' if len(runs) == 1 else ''}"
    )
    pictures.draw_shares(
        folder / "negatives.png",
        {label: list(by_query.values()) for label, by_query in values.items()},
        10,
        title,
        f"share of a query's negatives in the first {units.counted(depth, 'document')} of its list, "
        "without the positives",
        "share of a query's negatives",
    )
    rows = [
        ["", "share", "queries"],
        *([label, f"{value:.4f}", f"{len(values[label]):,}"] for label, value in means.items()),
    ]
    return Analysis(
        "negatives",
        f"Share of a query's negatives in the top {depth:,}, mean over queries",
        rows,
        {label: {"mean": means[label], "by_query": values[label]} for label in values},
    )


def curves(paths: dict[str, str], names: list[str] | None, folder: Path) -> Analysis:
    """Plot the values of training logs over steps (curves.png)."""
    numbers = logs.chosen({label: logs.read_curves(path) for label, path in paths.items()}, names)
    last = max(curve.steps[-1] for found in numbers.values() for curve in found.values())
    title = (
        f"{short(next(iter(paths))) if len(paths) == 1 else f'{len(paths)} trainings'} over "
        f"{units.counted(last, 'step')}"
    )
    if len(numbers) == 1:
        title = f"{next(iter(numbers))} in {title}"
    pictures.draw_curves(folder / "curves.png", numbers, list(paths), title)
    rows = [["at the end", *paths]]
    rows += [
        [
            name,
            *(
                f"{(logs.smoothed(found[label].values) or found[label].values)[-1]:.4g}" if label in found else ""
                for label in paths
            ),
        ]
        for name, found in numbers.items()
    ]
    return Analysis(
        "curves",
        title,
        rows,
        {name: {label: curve._asdict() for label, curve in found.items()} for name, found in numbers.items()},
    )
