"""Fuse runs into one, by reciprocal rank or by a weighted sum of scores.

    drtools fuse star.run bm25.run -o fused.run
    drtools fuse star.run bm25.run --method linear --tune qrels/dev.tsv -o tuned.run

Reciprocal rank fusion uses k = 60. Linear fusion is s1 + w * s2 over the union of the lists. Runs of different systems
have scores of different sizes. Without --weights and --tune each query's scores are thus scaled to [0, 1] (min-max).
With --weights, or with a weight w that --tune finds on dev judgements, scores are added as they are (--normalization).
A document that is missing from a list gets the lowest score of that list (with --missing zero: 0).

With --tune, or with --dev-qrels for any method, it is reported whether the result is better than the best of the runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Literal

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import IgnoreIdenticalIds, Role
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.evaluation.answers import check_measures
from drtools.evaluation.measures import parse_measure
from drtools.evaluation.specs import FusionTuning
from drtools.evaluation.tuning import compare_fusion, read_dev, tune_fusion
from drtools.formats.trec import write_run
from drtools.outputs.opening import open_file
from drtools.outputs.request import add_change
from drtools.search.fusion import fuse_runs
from drtools.search.specs import FusionSpec
from drtools.units import counted

USUAL_K = 60.0
# what 0.1.0 computed otherwise for the same arguments
SCALED = "scores without weights are scaled to [0, 1] by query"


@dataclass(frozen=True)
class FuseFlags:
    """How runs are fused, and what the weight is tuned on."""

    method: Annotated[
        Literal["rrf", "linear"], Option(help="rrf: reciprocal rank fusion; linear: weighted sum of scores")
    ] = "rrf"
    k: Annotated[float | None, Option(min=0, help="rrf: constant added to each rank; default: 60")] = None
    weights: Annotated[str | None, Option(help="a weight for each run, for instance `1,0.3`; default: 1 each")] = None
    normalization: Annotated[
        Literal["none", "min-max", "z-score"] | None,
        Option(
            help="linear: normalization of each list's scores before the sum; default: min-max, with --weights or "
            "--tune none"
        ),
    ] = None
    missing: Annotated[
        Literal["lowest", "zero"] | None,
        Option(help="linear: score of a document that is missing from a list; default: lowest"),
    ] = None
    tune: Annotated[
        str | None, Option(help="dev qrels to tune the second run's weight on; for two runs only"), Role.INPUT
    ] = None
    tune_answers: Annotated[
        str | None, Option(help="answers to tune on, instead of --tune (see eval --answers)"), Role.INPUT
    ] = None
    corpus: Annotated[
        str | None, Option(help="with --tune-answers: corpus in which to look for answers"), Role.INPUT
    ] = None
    answer_match: Annotated[
        Literal["string", "regex"] | None, Option(help="with --tune-answers: see eval --answer-match; default: string")
    ] = None
    tune_runs: Annotated[
        list[str] | None,
        Option(help="runs of the same systems for the dev queries, one for each run; default: the runs themselves"),
        Role.INPUT,
    ] = None
    dev_qrels: Annotated[
        str | None,
        Option(help="dev qrels on which to compare the result with the runs, without tuning; see --tune-runs"),
        Role.INPUT,
    ] = None
    tune_measure: Annotated[
        str | None,
        Option("--tune-on", "--tune-measure", help="measure to tune for; default: nDCG@10, with answers Success@100"),
    ] = None
    depth: Annotated[int, Option(min=1, help="hits to keep for each query")] = 1000
    ignore_identical_ids: IgnoreIdenticalIds = False

    @property
    def scales(self) -> bool:
        """Whether scores are scaled because nothing says how they compare."""
        unweighted = not (self.weights or self.tune or self.tune_answers)
        return self.method == "linear" and self.normalization is None and unweighted

    @property
    def spec(self) -> FusionSpec:
        """How lists are fused."""
        return FusionSpec(
            self.method,
            USUAL_K if self.k is None else self.k,
            self.normalization or ("min-max" if self.scales else "none"),
            self.missing or "lowest",
            self.depth,
            self.ignore_identical_ids,
        )

    @property
    def tuning(self) -> FusionTuning | None:
        """What the second run's weight is tuned on, or else what the result is compared on."""
        if not (self.tune or self.tune_answers or self.dev_qrels):
            return None
        return FusionTuning(
            self.tune or self.dev_qrels,
            self.tune_answers,
            self.corpus,
            self.answer_match or "string",
            tuple(self.tune_runs) if self.tune_runs else None,
            self.tune_measure or ("Success@100" if self.tune_answers else "nDCG@10"),
        )


def main(
    runs: Annotated[list[str], Argument(help="two runs or more"), Role.INPUT], file: FileOutput, flags: FuseFlags
) -> None:
    """Read runs, tune the weight if asked to, fuse and write."""
    check(runs, flags)
    spec, tuning = flags.spec, flags.tuning
    measure = parse_measure(tuning.measure) if tuning else None
    if measure and flags.tune_answers:
        check_measures([measure])
    weights = parse_weights(flags.weights, len(runs))
    if flags.scales:
        add_change(file.request, SCALED)
    with open_file(file) as work:
        tried: list[tuple[float, float]] = []
        dev = read_dev(runs, spec, tuning) if tuning else None
        if dev and not flags.dev_qrels:
            best, tried = tune_fusion(runs, spec, dev)
            weights = [1.0, best]
        compared = {"dev": compare_fusion(runs, weights, spec, dev)} if dev else {}
        fused = fuse_runs(runs, weights, spec)
        write_run(work.stream, fused.items(), "fused")
        work.finish(
            kind="run",
            queries=len(fused),
            weights=weights,
            tried=tried,
            **({"tuned_for": tuning.measure} if tuning and not flags.dev_qrels else {}),
            **compared,
        )
        say_weights(runs, weights, spec, flags.scales)


def say_weights(runs: list[str], weights: list[float], spec: FusionSpec, scales: bool) -> None:
    """Report the weight of each run, and whether scores are scaled."""
    how = "scores are added as they are" if spec.normalization == "none" else f"{spec.normalization} by query"
    if spec.method == "rrf":
        how = f"reciprocal ranks with k {spec.k:g}"
    elif scales:
        how += ", since no weights are given"
    reporting.say(f"{', '.join(f'{weight:g} {run}' for weight, run in zip(weights, runs, strict=True))}; {how}")


def check(runs: list[str], flags: FuseFlags) -> None:
    """Raise InputError for flags that do not go together, or that do not fit the number of runs."""
    if len(runs) < 2:
        raise InputError(f"{len(runs)} run was given", expected="two or more")
    tuned = flags.tune or flags.tune_answers
    if (flags.tune and flags.tune_answers) or bool(flags.tune_answers) != bool(flags.corpus):
        raise InputError(
            "pass either --tune QRELS, or --tune-answers ANSWERS with the --corpus in which to look for them"
        )
    if tuned and len(runs) != 2:
        raise InputError(f"--tune needs exactly two runs, but {len(runs)} were given", remedy="use --weights instead")
    if tuned and flags.dev_qrels:
        raise InputError("--tune compares the result with the runs too", remedy="leave --dev-qrels out")
    if tuned and flags.weights:
        raise InputError("--tune and --weights both set the weights", remedy="leave one of the two out")
    if flags.tune_runs and len(flags.tune_runs) != len(runs):
        raise InputError(
            f"{len(flags.tune_runs)} --tune-runs were given for {len(runs)} runs",
            expected="one for each run, in the same order",
        )
    if flags.answer_match and not flags.tune_answers:
        raise InputError(
            "--answer-match needs --tune-answers", remedy="pass --tune-answers too, or leave --answer-match out"
        )
    for name, value in {"--tune-runs": flags.tune_runs, "--tune-on": flags.tune_measure}.items():
        if value and not (tuned or flags.dev_qrels):
            raise InputError(
                f"{name} needs --tune or --tune-answers", remedy="pass --tune QRELS or --tune-answers ANSWERS too"
            )
    for name, given, method in (
        ("--k", flags.k, "rrf"),
        ("--normalization", flags.normalization, "linear"),
        ("--missing", flags.missing, "linear"),
    ):
        if given is not None and flags.method != method:
            raise InputError(f"{name} needs --method {method}", remedy=f"pass it too, or leave {name} out")


def parse_weights(text: str | None, count: int) -> list[float]:
    """Return one weight for each run."""
    if text is None:
        return [1.0] * count
    try:
        factors = [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(
            where=f"--weights {text}", expected="numbers separated by commas, for instance 1,0.3"
        ) from None
    if not all(map(isfinite, factors)):
        raise InputError(where=f"--weights {text}", expected="finite numbers")
    if len(factors) != count:
        raise InputError(f"{counted(len(factors), 'weight')} for {count} runs", where=f"--weights {text}")
    return factors
