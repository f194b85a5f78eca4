"""Comparison of runs, or of vectors instead of runs: pairwise errors and margins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from drtools.evaluation.analyses.errors import analyse_errors, errors_in_corpus, errors_of_run, relevant_documents
from drtools.evaluation.analyses.margins import Scores, analyse_margins, pairs_of_examples, pairs_of_runs
from drtools.evaluation.sides import Sides, with_documents, with_vectors
from drtools.formats.examples import read_examples
from drtools.models.specs import ComputeSpec

if TYPE_CHECKING:
    from drtools.evaluation.analyses.base import Analysis
    from drtools.formats.trec import Qrels, Run


def errors_of(
    runs: Mapping[str, Run],
    sides: Mapping[str, Sides],
    qrels: Qrels,
    min_rel: int,
    depth: int,
    compute: ComputeSpec,
    folder: Path,
) -> Analysis:
    """Count the pairwise errors of runs, and those of vectors exactly over the whole corpus."""
    relevant = with_documents(with_vectors(relevant_documents(qrels, min_rel), sides), sides)
    found = {label: errors_of_run(label, run, relevant, depth) for label, run in runs.items()}
    if sides:  # else torch is not needed
        from drtools.evaluation.corpus_ranks import above_in_corpus
        from drtools.models.compute import settle

        device = settle(compute).device
        for label, one in sides.items():
            found[label] = errors_in_corpus(above_in_corpus(label, one, relevant, device), depth)
    return analyse_errors(found, depth, folder)


def margins_of(
    runs: Mapping[str, Run],
    sides: Mapping[str, Sides],
    examples: str | None,
    qrels: Qrels,
    min_rel: int,
    depth: int,
    folder: Path,
) -> Analysis:
    """Measure the margins of runs and vectors over fixed pairs: those of examples, or of what every run lists."""
    if examples:
        pairs, where = pairs_of_examples(read_examples(examples)), f"in {examples}"
    else:
        pairs, where = pairs_of_runs(runs, qrels, min_rel, depth), f"in the top {depth:,} of every run"
    pairs = with_vectors(pairs, sides)
    wanted = {query: [*pair.positives, *pair.negatives] for query, pair in pairs.items()}
    scores: dict[str, Scores] = {**runs}
    if sides:  # else torch is not needed
        from drtools.evaluation.corpus_ranks import scores_of

        scores |= {label: scores_of(one, wanted) for label, one in sides.items()}
    return analyse_margins(scores, pairs, where, folder)
