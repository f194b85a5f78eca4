"""Pairwise errors of runs and vectors: means, and shares by bin of errors (Zhan et al. 2021, Table 1 and Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from drtools import reporting
from drtools.errors import InputError, param
from drtools.evaluation import pairwise_errors, pictures
from drtools.evaluation.analyses.base import Analysis, check_queries, short
from drtools.evaluation.measures import mean
from drtools.evaluation.pairwise_errors import Above
from drtools.formats.joins import note_nothing_judged
from drtools.formats.trec import Qrels, Run
from drtools.units import counted

Relevant = dict[str, set[str]]


class Errors(TypedDict):
    """The entry of a run or of vectors in analysis.json. `exact` is False if `in_all` is only a lower bound."""

    mean_against_top: float
    mean_in_all: float
    exact: bool
    share_of_worst_tenth: float
    relevant_not_listed: int
    queries_without_hits: int
    against_top: dict[str, int]
    in_all: dict[str, int]


class Panel(NamedTuple):
    """One kind of errors: its title, and {label: {query: errors}}."""

    title: str
    counts: dict[str, dict[str, int]]


def relevant_documents(qrels: Qrels, min_rel: int) -> Relevant:
    """Return the relevant documents of each query that has any; report the other queries, which have no pairs."""
    relevant = {
        query: {document for document, grade in grades.items() if grade >= min_rel} for query, grades in qrels.items()
    }
    asked = {query: documents for query, documents in relevant.items() if documents}
    if not asked:
        raise InputError(
            f"no judged document has grade {min_rel} or more",
            remedy=f"set {param('min_rel')} to the lowest grade that counts",
        )
    reporting.notice(
        len(relevant) - len(asked),
        f"{len(relevant) - len(asked):,} of {len(relevant):,} judged queries have no relevant document; they are left "
        "out of pairwise errors",
    )
    return asked


def errors_of_run(label: str, run: Run, relevant: Relevant, depth: int) -> Errors:
    """Count a run's errors; the total is a lower bound if the run does not list every relevant document."""
    without_hits = check_queries(label, run, relevant, "they have as many errors against the top as there can be")
    judged = {query: dict.fromkeys(documents, 1) for query, documents in relevant.items()}
    note_nothing_judged(label, run, judged, f"{param('qrels')}")
    above = {
        query: pairwise_errors.above_in_list(run.get(query, ()), documents) for query, documents in relevant.items()
    }
    unlisted, count = sum(each.lacking for each in above.values()), sum(map(len, relevant.values()))
    reporting.notice(
        unlisted,
        f"{label} does not list {unlisted:,} of {count:,} relevant documents, so its total errors are a lower bound; "
        f"use {param('vectors')} and {param('query_vectors')} to count them exactly, or search with a larger "
        f"{param('depth')}",
    )
    return _errors(above, depth, without_hits)


def errors_in_corpus(above: Mapping[str, list[int]], depth: int) -> Errors:
    """Count the errors over a whole corpus, from the number of documents above each relevant one."""
    return _errors({query: Above(each) for query, each in above.items()}, depth, 0)


def _errors(above: dict[str, Above], depth: int, without_hits: int) -> Errors:
    top = {query: pairwise_errors.errors_against_top(each, depth) for query, each in above.items()}
    whole = {query: pairwise_errors.errors_in_all(each) for query, each in above.items()}
    unlisted = sum(each.lacking for each in above.values())
    return {
        "mean_against_top": mean(top),
        "mean_in_all": mean(whole),
        "exact": not unlisted,
        "share_of_worst_tenth": pairwise_errors.share_of_worst(top.values()),
        "relevant_not_listed": unlisted,
        "queries_without_hits": without_hits,
        "against_top": top,
        "in_all": whole,
    }


def analyse_errors(found: dict[str, Errors], depth: int, folder: Path) -> Analysis:
    """Compare the errors of runs and vectors: means over queries, and shares by bin of errors (errors.png)."""
    tops = {label: one["against_top"] for label, one in found.items()}
    panels = [Panel(f"against the top {depth:,} that are not relevant", tops)]
    wholes = {label: one["in_all"] for label, one in found.items()}
    if wholes != tops:
        least = (
            ""
            if all(one["exact"] for one in found.values())
            else " (at least, where relevant documents are not listed)"
        )
        panels.append(Panel(f"in all{least}", wholes))
    best = min(tops, key=lambda label: found[label]["mean_against_top"])
    queries = len(tops[best])
    title = (
        f"{short(best)}{' has the fewest errors' if len(found) > 1 else ''} against the top {depth:,}: "
        f"{found[best]['mean_against_top']:,.1f} a query"
    )
    histogram = shares_by_bin(panels)
    pictures.draw_errors(
        folder / "errors.png",
        histogram["bins"],
        [
            (panel.title, unit, histogram[key][panel.title])
            for panel in panels
            for unit, key in (("queries (%)", "share_of_queries"), ("errors (%)", "share_of_errors"))
        ],
        title,
    )
    rows = [
        [
            "",
            f"against the top {depth:,}",
            "in all",
            "queries without any",
            "made by the worst 10%",
            "relevant, not listed",
        ],
        *(
            [
                label,
                f"{one['mean_against_top']:,.2f}",
                f"{'' if one['exact'] else 'at least '}{one['mean_in_all']:,.2f}",
                f"{sum(not count for count in one['against_top'].values()):,} of {queries:,}",
                f"{one['share_of_worst_tenth']:.0%}",
                f"{one['relevant_not_listed']:,}",
            ]
            for label, one in found.items()
        ),
    ]
    numbers = {"queries": queries, "runs": found, "histogram": histogram}
    return Analysis(
        "errors", f"Pairwise errors a query, mean over {counted(queries, 'query', 'queries')}", rows, numbers
    )


def shares_by_bin(panels: list[Panel]) -> dict[str, Any]:
    """Return bins of errors per query, and by panel and label each bin's queries, share of queries, share of errors."""
    bins = pairwise_errors.bins_up_to(
        max(count for panel in panels for counts in panel.counts.values() for count in counts.values())
    )
    queries = {
        panel.title: {
            label: pairwise_errors.count_in_bins(counts.values(), bins) for label, counts in panel.counts.items()
        }
        for panel in panels
    }
    return {
        "bins": bins,
        "queries": queries,
        "share_of_queries": {
            title: {label: pairwise_errors.shares(counts) for label, counts in labels.items()}
            for title, labels in queries.items()
        },
        "share_of_errors": {
            panel.title: {
                label: pairwise_errors.shares(pairwise_errors.sum_in_bins(counts.values(), bins))
                for label, counts in panel.counts.items()
            }
            for panel in panels
        },
    }
