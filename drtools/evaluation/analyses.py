"""Each analysis of the papers from its inputs: numbers for analysis.json, a table and a picture for a person."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from drtools import console
from drtools.errors import UserError
from drtools.evaluation import curves as logs
from drtools.evaluation import errors as counting
from drtools.evaluation import overlap, pictures, projection, scores, soft_labels
from drtools.evaluation.measures import mean
from drtools.formats.examples import read_examples
from drtools.formats.trec import Qrels, Run
from drtools.formats.vectors import Vectors, belong_together, open_document_vectors, open_vectors

if TYPE_CHECKING:
    import numpy as np

LONGEST_NAME = 26  # characters in a title; longer ones are cut in the middle


class Analysis(NamedTuple):
    """What was found: its key in analysis.json, what is seen in a sentence, rows of words, every number."""

    name: str
    title: str
    table: list[list[str]]
    numbers: dict


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2 - 1]}…{name[-LONGEST_NAME // 2 :]}"


def errors(
    runs: dict[str, Run], qrels: Qrels, min_rel: int, depth: int, corpus_size: int | None, folder: Path
) -> Analysis:
    """Count the pairwise errors of runs, against the top `depth` and in all: means over queries, histogram, errors.png.

    Queries without a relevant document have no pair, and are left out and counted.
    """
    relevant = {
        query: {document for document, grade in grades.items() if grade >= min_rel} for query, grades in qrels.items()
    }
    asked = {query: documents for query, documents in relevant.items() if documents}
    if not asked:
        raise UserError(
            f"no judged document has grade {min_rel} or more; set --min-rel to the lowest grade that counts"
        )
    console.notice(
        len(relevant) - len(asked),
        f"{len(relevant) - len(asked):,} of {len(relevant):,} judged queries have no relevant document; they are left "
        "out of pairwise errors",
    )
    found = {label: _errors_of(label, run, asked, depth, corpus_size) for label, run in runs.items()}
    tops, wholes = ({label: run[key] for label, run in found.items()} for key in ("against_top", "in_all"))
    panels = {f"against the top {depth:,}": tops}
    sign = ""
    if wholes != tops:
        if any(run["relevant_not_listed"] for run in found.values()):
            sign = "about" if corpus_size else "at least"
        words = {
            "": "in all",
            "about": "in all: what is not listed stands below in any order",
            "at least": "in all: at least so many, as not every relevant document is listed",
        }
        panels[words[sign]] = wholes
    bins = counting.bins_up_to(
        max(count for kind in panels.values() for counts in kind.values() for count in counts.values())
    )
    counted = {
        words: {label: counting.count_in_bins(counts.values(), bins) for label, counts in kind.items()}
        for words, kind in panels.items()
    }
    best = min(tops, key=lambda label: mean(tops[label]))
    title = (
        f"{_short(best)}{' has the fewest errors' if len(runs) > 1 else ''} against the top {depth:,}: "
        f"{mean(tops[best]):,.1f} a query"
    )
    pictures.draw_errors(folder / "errors.png", bins, counted, title)
    rows = [
        [
            "",
            f"against the top {depth:,}",
            " ".join(["in all", sign and f"({sign})"]).strip(),
            "queries without any",
            "made by the worst 10%",
            "relevant, not listed",
        ]
    ]
    for label, run in found.items():
        clean = sum(not count for count in tops[label].values())
        rows.append(
            [
                label,
                f"{run['mean_against_top']:,.2f}",
                f"{run['mean_in_all']:,.2f}",
                f"{clean:,} of {len(asked):,}",
                f"{run['share_of_worst_tenth']:.0%}",
                f"{run['relevant_not_listed']:,}",
            ]
        )
    return Analysis(
        "errors",
        f"Pairwise errors a query, mean over {len(asked):,} queries",
        rows,
        {
            "queries": len(asked),
            "corpus_size": corpus_size,
            "runs": found,
            "histogram": {"bins": bins, "queries": counted},
        },
    )


def _errors_of(label: str, run: Run, asked: dict[str, set[str]], depth: int, corpus_size: int | None) -> dict:
    without_hits = _lacking(label, run, asked, "they have as many errors against the top as there can be")
    top: dict[str, float] = {}
    whole: dict[str, float] = {}
    unlisted = 0
    for query, documents in asked.items():
        hits = list(run.get(query, ()))
        top[query] = counting.errors_in_top(hits, documents, depth)
        whole[query], lacking = counting.errors_in_list(hits, documents)
        if corpus_size is not None:
            if len(hits) + lacking > corpus_size:
                raise UserError(
                    f"--corpus-size {corpus_size:,}: {label} and the judgements name {len(hits) + lacking:,} documents "
                    f"for query {query}; expected the documents of the whole corpus"
                )
            whole[query] = counting.expected_errors(hits, documents, corpus_size)
        unlisted += lacking
    judged = sum(map(len, asked.values()))
    move = (
        "where in the rest they stand is taken as even"
        if corpus_size
        else "its errors in all are at least what is said: search with a larger --depth, or say --corpus-size"
    )
    console.notice(unlisted, f"{label} does not list {unlisted:,} of {judged:,} relevant documents; {move}")
    return {
        "mean_against_top": mean(top),
        "mean_in_all": mean(whole),
        "share_of_worst_tenth": counting.share_of_worst(top.values()),
        "relevant_not_listed": unlisted,
        "queries_without_hits": without_hits,
        "against_top": top,
        "in_all": whole,
    }


def _lacking(label: str, run: Run, asked: dict, words: str) -> int:
    lacking = sum(query not in run for query in asked)
    if lacking == len(asked):
        raise UserError(
            f"{label}: holds none of the {len(asked):,} queries asked for; do the run and the other file belong "
            "together?"
        )
    console.notice(lacking, f"{label} lacks {lacking:,} of {len(asked):,} queries; {words}")
    return lacking


def likeness(runs: dict[str, Run], reference: Run, name: str, p: float, depth: int, folder: Path) -> Analysis:
    """Compare runs with a reference by rank-biased overlap down to `depth`.

    Mean over its queries, histogram, likeness.png.
    """
    if not reference:
        raise UserError(f"{name}: a run without a query; there is nothing to compare with")
    values = {}
    for label, run in runs.items():
        _lacking(label, run, reference, f"their overlap with {name} is 0")
        values[label] = {
            query: overlap.rank_biased_overlap(list(run.get(query, ()))[:depth], list(hits)[:depth], p)
            for query, hits in reference.items()
        }
    means = {label: mean(by_query) for label, by_query in values.items()}
    best = max(means, key=means.__getitem__)
    title = (
        f"{_short(best)} is likest to {_short(name)}: RBO {means[best]:.2f}"
        if len(runs) > 1
        else f"RBO of {_short(best)} with {_short(name)}: {means[best]:.2f}"
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
        f"Rank-biased overlap with {name}, mean over {len(reference):,} queries",
        rows,
        {
            "reference": name,
            "p": p,
            "queries": len(reference),
            "runs": {label: {"mean": means[label], "by_query": values[label]} for label in runs},
        },
    )


def of_examples(paths: dict[str, str], runs: dict[str, Run], depth: int, bins: int, folder: Path) -> list[Analysis]:
    """Look at examples: the scores that they keep, scores.png; a teacher's as soft labels, soft-labels.png.

    With runs the negatives that are still hard, negatives.png.
    """
    kept = {label: list(read_examples(path)) for label, path in paths.items()}
    found = {label: scores.scores_by_kind(examples) for label, examples in kept.items()}
    found = {label: kinds for label, kinds in found.items() if kinds}
    if not found and not runs:
        raise UserError(
            f"{', '.join(paths)}: examples without scores, and no run was given; mine-negatives and teacher-score "
            "write scores"
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
    edges, flat = scores.histogram(
        {f"{label}\t{kind}": values for label, kinds in files.items() for kind, values in kinds.items()}, bins
    )
    counted = {label: {kind: flat[f"{label}\t{kind}"] for kind in kinds} for label, kinds in files.items()}
    told = {label: {kind: scores.summary(values) for kind, values in kinds.items()} for label, kinds in files.items()}
    kinds = next(iter(told.values()))
    title = (
        "Mean score: " + ", ".join(f"{kind} {kinds[kind]['mean']:.3g}" for kind in list(kinds)[:2])
        if len(told) == 1
        else f"Scores in {len(told)} files of examples"
    )
    pictures.draw_scores(folder / "scores.png", edges, counted, title)
    rows = [["", "items", "mean", "deviation", *scores.QUANTILES]]
    for label, kinds in told.items():
        rows += [
            [
                f"{label}  {kind}",
                f"{one['count']:,}",
                *(f"{one[name]:.3f}" for name in ("mean", "standard_deviation", *scores.QUANTILES)),
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
        "the teacher's softmax over a query's list: 1 says no more than a label",
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
        "The teacher's softmax over a query's list: mass on the top item, and evenness (entropy over its most), means "
        "over queries",
        rows,
        told,
    )


def agreement(lists: dict[str, dict[str, list[tuple[list[float], list[float], float]]]], folder: Path) -> Analysis:
    """Compare students with the teacher: `lists` holds {student: {kind of list: (teacher's scores, student's, scale)}}.

    Agreement.png shows Kendall's tau.
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
            f"{_short(best)}: Kendall's tau with the teacher {fmean(drawn[best]):.2f}",
            f"order of a query's list ({kind}) by student and teacher: 1 the same, 0 unrelated, -1 the reverse",
            "Kendall's tau of a query's list",
            low=-1.0,
        )
    return Analysis("agreement", "Students and their teacher, mean over queries", rows, told)


class Agreed(TypedDict):
    """How far a student's lists and the teacher's agree, means over queries; `tied` lists have no tau."""

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


def _still_hard(files: dict[str, list], runs: dict[str, Run], depth: int, folder: Path) -> Analysis:
    values: dict[str, dict[str, float]] = {}
    for file, examples in files.items():
        asked = {example.query_id: example for example in examples if example.negatives}
        if not asked:
            raise UserError(f"{file}: no query has a negative; there is nothing to look for in a run")
        for label, run in runs.items():
            _lacking(label, run, asked, f"they are left out of the share of {file}'s negatives")
            name = label if len(files) == 1 else file if len(runs) == 1 else f"{file} in {label}"
            values[name] = {
                query: overlap.share_still_hard(example.negatives, list(run[query]), set(example.positives), depth)
                for query, example in asked.items()
                if query in run
            }
    means = {label: mean(by_query) for label, by_query in values.items()}
    share = " to ".join(f"{value:.0%}" for value in dict.fromkeys([min(means.values()), max(means.values())]))
    title = (
        f"{share} of the negatives are in the top "
        f"{depth:,}{f' of {_short(next(iter(runs)))}' if len(runs) == 1 else ''}"
    )
    pictures.draw_shares(
        folder / "negatives.png",
        {label: list(by_query.values()) for label, by_query in values.items()},
        10,
        title,
        f"share of a query's negatives in the first {depth:,} documents of its list, without the positives",
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
    """Draw the numbers of training logs over steps, curves.png."""
    numbers = logs.chosen({label: logs.read_curves(path) for label, path in paths.items()}, names)
    last = max(curve.steps[-1] for found in numbers.values() for curve in found.values())
    title = f"{_short(next(iter(paths))) if len(paths) == 1 else f'{len(paths)} trainings'} over {last:,} steps"
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


def move(
    vectors: str, query_vectors: list[str], query: str, qrels: Qrels, min_rel: int, depth: int, folder: Path
) -> Analysis:
    """Project a query before and after training with its relevant and top documents, move.png."""
    import numpy as np

    documents = open_document_vectors(vectors)
    queries = np.stack([_query_vector(path, query, documents) for path in query_vectors])
    found = projection.all_scores(documents.array, queries)
    tops = [projection.best_rows(row, depth) for row in found]
    wanted = [document for document, grade in qrels.get(query, {}).items() if grade >= min_rel]
    rows_of = {document: documents.ids.row_of(document) for document in wanted}
    relevant = {document: row for document, row in rows_of.items() if row is not None}
    lacking = len(rows_of) - len(relevant)
    console.notice(lacking, f"{vectors} lacks {lacking:,} of the {len(wanted):,} relevant documents of query {query}")
    shown = list(dict.fromkeys([*tops[0], *tops[1], *relevant.values()]))
    ascending = np.array(sorted(shown), np.int64)
    plane = projection.project(documents.array[ascending][np.argsort(np.argsort(shown))], *queries)
    if plane is None:
        raise UserError(
            f"query {query!r} has the same vector in {query_vectors[0]} and {query_vectors[1]}; it did not move"
        )
    before, after, positive = set(tops[0]), set(tops[1]), set(relevant.values())
    groups = {
        "top before and after": before & after - positive,
        "top before alone": before - after - positive,
        "top after alone": after - before - positive,
        "relevant": positive,
    }
    ranks = {document: [projection.rank_of(row, at) for row in found] for document, at in relevant.items()}
    best = [min(both[side] for both in ranks.values()) for side in (0, 1)] if ranks else None
    length, stay = float(np.linalg.norm(queries[1] - queries[0])), len(before & after)
    title = f"Query {_short(query)} keeps {stay:,} of its top {len(before):,} documents"
    if best:
        title = f"Query {_short(query)}: best relevant document " + (
            f"from rank {best[0]:,} to {best[1]:,}" if best[0] != best[1] else f"stays at rank {best[0]:,}"
        )
    pictures.draw_projection(
        folder / "move.png",
        plane,
        {name: [at for at, row in enumerate(shown) if row in rows] for name, rows in groups.items()},
        title,
        f"the query moves by {length:.3g}; {stay:,} of its top {len(before):,} stay; the plane shows "
        f"{plane.spread:.0%} of the documents' variance",
    )
    rows = [
        ["relevant document", "rank before", "rank after"],
        *([document, *(f"{rank:,}" for rank in both)] for document, both in ranks.items()),
    ]
    kind = {row: name for name, members in groups.items() for row in members}
    return Analysis(
        "move",
        title,
        rows,
        {
            "query": query,
            "length": length,
            "stay": stay,
            "variance_shown": plane.spread,
            "queries": dict(zip(("before", "after"), plane.queries.tolist(), strict=True)),
            "relevant": {
                document: dict(zip(("rank_before", "rank_after"), both, strict=True))
                for document, both in ranks.items()
            },
            "documents": {
                documents.ids[row]: {"kind": kind[row], "at": point}
                for row, point in zip(shown, plane.documents.tolist(), strict=True)
            },
        },
    )


def _query_vector(path: str, query: str, documents: Vectors) -> np.ndarray:
    import numpy as np

    queries = open_vectors(path)
    if queries.manifest["side"] != "query":
        raise UserError(f"{path}: vectors of documents, expected vectors of queries (encode --queries)")
    if not belong_together(queries.manifest, documents.manifest):
        raise UserError(
            f"{path}: of another encoder than the documents' vectors {documents.path}; both query vectors must go with "
            "the same documents"
        )
    row = queries.ids.row_of(query)
    if row is None:
        raise UserError(f"{path}: holds no query {query!r}; --query takes an id, for instance {queries.ids[0]!r}")
    return np.asarray(queries.array[row : row + 1], np.float32)[0]
