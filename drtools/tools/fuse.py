"""Fuse runs into one: reciprocal rank (k = 60), or a weighted sum of scores whose weight can be tuned on dev.

    drtools fuse dense.run bm25.run -o fused.run
    drtools fuse dense.run bm25.run --method linear --tune qrels/dev.tsv -o fused.run

A linear fusion is s1 + w * s2 over the union of the lists. A document that a list lacks takes that list's lowest score
there (--missing zero: 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import IgnoreIdenticalIds, Role
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.formats.joins import Join, note_little_in_common, note_nothing_judged, note_nothing_relevant
from drtools.outputs import work as output

if TYPE_CHECKING:
    from drtools.evaluation.answers import Matching
    from drtools.search.fusion import Parts

USUAL_K = 60.0


def main(
    runs: Annotated[list[str], Argument(help="two runs or more"), Role.INPUT],
    file: FileOutput,
    method: Annotated[
        Literal["rrf", "linear"], Option(help="rrf: reciprocal rank; linear: weighted sum of scores")
    ] = "rrf",
    k: Annotated[float | None, Option(min=0, help="rrf: the constant added to each rank; default: 60")] = None,
    weights: Annotated[str | None, Option(help="a weight for each run, `1,0.3`; default: 1 each")] = None,
    normalization: Annotated[
        Literal["none", "min-max", "z-score"] | None, Option(help="linear: of each list, before the sum; default: none")
    ] = None,
    missing: Annotated[
        Literal["lowest", "zero"] | None, Option(help="linear: score of a document that a list lacks; default: lowest")
    ] = None,
    tune: Annotated[
        str | None, Option(help="qrels (dev): choose the second run's weight on them; two runs only"), Role.INPUT
    ] = None,
    tune_answers: Annotated[
        str | None, Option(help="answers (eval --answers) in place of --tune's judgements"), Role.INPUT
    ] = None,
    corpus: Annotated[str | None, Option(help="--tune-answers: the texts to find them in"), Role.INPUT] = None,
    answer_match: Annotated[
        Literal["string", "regex"] | None, Option(help="--tune-answers: as eval --answer-match; default: string")
    ] = None,
    tune_runs: Annotated[
        list[str] | None,
        Option(help="the same systems' runs of the dev queries, once for each run; default: the runs themselves"),
        Role.INPUT,
    ] = None,
    tune_measure: Annotated[
        str | None, Option(help="what to tune for; default nDCG@10, with answers Success@100")
    ] = None,
    depth: Annotated[int, Option(min=1, help="hits per query to keep")] = 1000,
    ignore_identical_ids: IgnoreIdenticalIds = False,
) -> None:
    """Compose: read, tune if asked, fuse, write."""
    from drtools.evaluation.answers import check_measures
    from drtools.evaluation.measures import parse_measure
    from drtools.evaluation.tuning import tune_weight
    from drtools.formats.trec import write_run
    from drtools.search.fusion import fuse, parts_of_runs, reciprocal_ranks, scores_of

    if len(runs) < 2:
        raise InputError(f"{len(runs)} run was given; fusion takes two or more")
    tuned = tune or tune_answers
    if (tune and tune_answers) or bool(tune_answers) != bool(corpus):
        raise InputError(
            "say either --tune QRELS, or --tune-answers ANSWERS with the --corpus whose texts may hold them"
        )
    if tuned and len(runs) != 2:
        raise InputError(
            f"--tune chooses the weight of the second of two runs, but {len(runs)} were given; say --weights"
        )
    if tuned and weights:
        raise InputError("--tune chooses the weight, --weights says it; expected one of them")
    if tune_runs and len(tune_runs) != len(runs):
        raise InputError(
            f"--tune-runs was said {len(tune_runs)} times for {len(runs)} runs; expected once for each, in their order"
        )
    if answer_match and not tune_answers:
        raise InputError("--answer-match: for --tune-answers; pass them too, or leave --answer-match out")
    for name, value in {"--tune-runs": tune_runs, "--tune-measure": tune_measure}.items():
        if value and not tuned:
            raise InputError(f"{name}: nothing is tuned; say --tune QRELS or --tune-answers ANSWERS too")
    for name, said, of in (
        ("--k", k, "rrf"),
        ("--normalization", normalization, "linear"),
        ("--missing", missing, "linear"),
    ):
        if said is not None and method != of:
            raise InputError(f"{name} is for --method {of}; say it too, or leave {name} out")
    measure = parse_measure(tune_measure or ("Success@100" if tune_answers else "nDCG@10"))
    if tune_answers:
        check_measures([measure])
    factors = parse_weights(weights, len(runs))

    def one_query(lists: Sequence[dict[str, float]]) -> Parts:
        return (
            reciprocal_ranks(lists, USUAL_K if k is None else k)
            if method == "rrf"
            else scores_of(lists, normalization or "none", missing or "lowest")
        )

    with output.file(file) as work:
        tried: list[tuple[float, float]] = []
        if tuned:
            tuned_on = [read_scores(path, method, ignore_identical_ids) for path in tune_runs or runs]
            judged = judgements(tune, tune_answers, corpus, answer_match, tuned_on)
            check_judged(tuned, judged, tune_runs or runs, tuned_on, bool(tune_answers))
            best, tried = tune_weight(parts_of_runs(tuned_on, one_query), judged, measure, depth)
            factors = [1.0, best]
            reporting.say(f"weight of {runs[1]}: {best:g} ({measure.name} {dict(tried)[best]:.4f} on {tuned})")
        inputs = [read_scores(path, method, ignore_identical_ids) for path in runs]
        note_lacking(runs, inputs)
        fused = fuse(parts_of_runs(inputs, one_query), factors, depth)
        write_run(work.stream, fused.items(), "fused")
        work.finish(
            kind="run",
            queries=len(fused),
            weights=factors,
            tried=tried,
            **({"tuned_for": measure.name} if tuned else {}),
        )


def read_scores(path: str, method: str, ignore_identical_ids: bool) -> dict[str, dict[str, float]]:
    """Read a run, without the documents of the queries' own ids if these are ignored; infinite scores have no sum."""
    from drtools.formats.identical import without_identical
    from drtools.formats.trec import read_run

    run = read_run(path)
    if ignore_identical_ids:
        run, count = without_identical(run)
        reporting.say(f"{path}: {count:,} queries list a document of their own id; left out")
    for query_id, hits in run.items() if method == "linear" else ():
        if not isfinite(sum(hits.values())):
            raise InputError(
                f"{path}: query {query_id} has an infinite score, which cannot be weighed; fuse by --method rrf, or "
                "write the run again"
            )
    return run


def judgements(
    qrels: str | None, answers: str | None, corpus: str | None, answer_match: Matching | None, runs: list[dict]
) -> dict[str, dict[str, int]]:
    """Read judgements, or make them of whether the runs' documents hold answers."""
    from drtools.evaluation.answers import judge
    from drtools.formats.answers import read_answers
    from drtools.formats.corpus_store import open_store
    from drtools.formats.trec import read_qrels

    if qrels:
        return read_qrels(qrels)
    assert answers is not None and corpus is not None, "qrels, or answers and a corpus are said"
    given = read_answers(answers)
    return judge(
        {query_id: dict.fromkeys(document for run in runs for document in run.get(query_id, ())) for query_id in given},
        given,
        open_store(corpus),
        answer_match or "string",
    )


def check_judged(name: str, judged: dict, paths: list[str], runs: list[dict], by_answers: bool) -> None:
    """Refuse judgements of other queries than the runs', and count those that both runs lack."""
    union = {query_id: None for run in runs for query_id in run}
    found = Join(union, " and ".join(paths), judged)
    found.check(
        f"{name}: judges none of the queries of {found.name}; say the dev queries' runs by --tune-runs, one for each "
        "run",
        f"{found.missing:,} of the {found.asked:,} queries that {name} judges are in neither run; they count 0 at each "
        "weight",
    )
    if not by_answers:
        note_nothing_relevant(judged, name)
        for path, run in zip(paths, runs, strict=True):
            note_nothing_judged(path, run, judged, name)


def parse_weights(text: str | None, count: int) -> list[float]:
    """Return one weight for each run."""
    if text is None:
        return [1.0] * count
    try:
        factors = [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"--weights {text}: expected numbers with commas between, for instance 1,0.3") from None
    if not all(map(isfinite, factors)):
        raise InputError(f"--weights {text}: expected finite numbers")
    if len(factors) != count:
        raise InputError(f"--weights {text}: {len(factors)} weights for {count} runs")
    return factors


def note_lacking(names: list[str], runs: list[dict]) -> None:
    """Count the queries that some runs have and others lack, and note runs that list few documents in common."""
    union = {query_id: None for run in runs for query_id in run}
    for name, run in zip(names, runs, strict=True):
        found = Join(run, name, union)
        found.note(f"{name} lacks {found.missing:,} of the {found.asked:,} queries; they are fused without it")
    for (name, run), (other, its) in combinations(zip(names, runs, strict=True), 2):
        note_little_in_common(name, run, other, its)
