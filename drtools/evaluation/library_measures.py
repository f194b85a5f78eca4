"""Measures of the library ir_measures: its grammar, trec_eval's names, and values that trec_eval does not have.

ir_measures asks other programs for some values: cwl_eval (RBP and its kin) and gdeval (ERR, in Perl, five digits).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drtools.errors import InputError

if TYPE_CHECKING:
    from ir_measures import Measure

HIGHEST_CUTOFF = 10**9 - 1
HIGHEST_ERR_GRADE = 4  # gdeval's; it ends with an error at a higher one
OF_TREC_EVAL = re.compile(r"[a-zA-Z0-9_]+([._][0-9.]+)?")


def parse(text: str) -> Measure | None:
    """Parse a measure such as `ERR@20`, `RBP(p=0.8)` or trec_eval's `ndcg_cut_10`; return None for an unknown one.

    Raises InputError for a known one that cannot be computed: parameters that it lacks or does not have, a number that
    is not averaged over queries, or a program that is not installed.
    """
    measure = _of_grammar(text) or _of_trec_eval(text)
    if measure is None:
        return None
    _check_parameters(text, measure)
    cutoff, grade = measure.params.get("cutoff", 1), measure.params.get("rel", 1)
    if not 0 < cutoff <= HIGHEST_CUTOFF or grade < 1:
        return None
    _check_provider(text, with_grade(measure, 1))
    return measure


def _check_parameters(text: str, measure: Any) -> None:
    """Raise InputError for parameters that a measure lacks, does not have, or has with a wrong value."""
    known = measure.SUPPORTED_PARAMS
    unknown = [name for name in measure.params if name not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise _not_computed(text, f"it has no parameter {unknown[0]}", has)
    for name, parameter in known.items():
        if name not in measure.params and parameter.required:
            example = f"{measure.NAME}@{10 if parameter.dtype is int else 0.1}"
            remedy = example if name == measure.AT_PARAM else f"{measure.NAME}({name}=...)"
            raise _not_computed(text, f"it needs a {name}", f"write for instance {remedy}")
        if name in measure.params and not parameter.validate(measure.params[name]):
            raise _not_computed(text, f"{measure.params[name]!r} is not a value of {name}")


def with_grade(measure: Measure, min_rel: int) -> Measure:
    """Return a measure that counts documents of grade `min_rel` or more, unless it has a lowest grade of its own."""
    if "rel" not in measure.SUPPORTED_PARAMS or "rel" in measure.params:
        return measure
    graded: Measure = measure(rel=min_rel)
    return graded


def _of_grammar(text: str) -> Measure | None:
    """Parse NAME(parameter=value, ...)@cutoff.

    The library's own parser uses classes of `ast` that Python 3.14 does not have.
    """
    from ir_measures.measures import registry

    names = {name.lower(): name for name in registry}
    try:
        node: ast.expr = ast.parse(text, mode="eval").body
        given: dict[str, Any] = {}
        at = None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            at, node = ast.literal_eval(node.right), node.left
        if isinstance(node, ast.Call) and not node.args:
            given, node = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}, node.func
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if not isinstance(node, ast.Name) or node.id.lower() not in names:
        return None
    measure: Measure = registry[names[node.id.lower()]]
    if at is not None:
        given[measure.AT_PARAM] = at
    parsed: Measure = measure(**given)
    return parsed


def _of_trec_eval(text: str) -> Measure | None:
    """Parse trec_eval's name of one measure: `map`, `P_5`, `recip_rank`, `iprec_at_recall_0.10`."""
    import pytrec_eval
    from ir_measures import parse_trec_measure

    if not OF_TREC_EVAL.fullmatch(text) or text in pytrec_eval.supported_nicknames:
        return None
    for name in (text, text.lower(), text[:1].upper() + text[1:].lower()):  # P and Rprec have capitals
        try:
            found = parse_trec_measure(name)
        except (ValueError, TypeError):
            continue
        if len(found) > 1:
            raise _not_computed(text, "trec_eval computes it at several cutoffs", f"name one, such as {text}_10")
        return found[0]
    return None


def _check_provider(text: str, measure: Measure) -> None:
    """Raise InputError for a measure that no installed program computes, or that is a number of all queries."""
    from ir_measures import DefaultPipeline
    from ir_measures.measures import MeanAgg

    if not isinstance(measure.aggregator(), MeanAgg):
        raise _not_computed(text, "it is a count, and measures are averaged over queries")
    pipeline: Any = DefaultPipeline  # its functions have no types
    if pipeline.supports(measure):
        return
    able = [provider for provider in pipeline.providers if provider.supports(measure)]
    advice = [words for provider in able if (words := provider.install_instructions())]
    if advice:
        raise _not_computed(text, "what computes it is not installed", advice[0])
    lacks = "cutoff" in measure.SUPPORTED_PARAMS and "cutoff" not in measure.params
    raise _not_computed(
        text,
        f"ir_measures does not compute it with{'out a cutoff' if lacks else ' these parameters'}",
        f"write for instance {measure.NAME}@10" if lacks else "",
    )


def _not_computed(text: str, reason: str, remedy: str = "") -> InputError:
    return InputError(f"measure {text!r} cannot be computed: {reason}", remedy=remedy)


def values(
    measures: Mapping[str, Measure], grades: Mapping[str, Mapping[str, int]], ranked: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """Return {name: {query id: value}} for every judged query; one without hits has the measure's default.

    `grades` are 0 or more; `ranked` has scores that decrease with each rank. Queries and documents are numbered for the
    library, because gdeval reads files with columns and only numbers as queries.
    """
    from ir_measures import DefaultPipeline

    _check_grades(measures, grades)
    numbers = {query: str(number) for number, query in enumerate(grades, start=1)}
    queries = {number: query for query, number in numbers.items()}
    judged, listed = {}, {}
    for query, number in numbers.items():
        known: dict[str, str] = {}
        for document in (*grades[query], *ranked.get(query, ())):
            known.setdefault(document, f"d{len(known)}")
        judged[number] = {known[document]: grade for document, grade in grades[query].items()}
        if hits := ranked.get(query):
            listed[number] = {known[document]: score for document, score in hits.items()}
    found = {
        name: {query: float(measure.DEFAULT) for query in grades} for name, measure in measures.items()
    }  # of queries without hits, too
    if listed:
        names: dict[str, list[str]] = {}
        for name, measure in measures.items():
            names.setdefault(str(measure), []).append(name)
        for metric in DefaultPipeline.evaluator(set(measures.values()), judged).iter_calc(listed):
            for name in names[str(metric.measure)]:
                found[name][queries[metric.query_id]] = float(metric.value)
    return found


def _check_grades(measures: Mapping[str, Measure], grades: Mapping[str, Mapping[str, int]]) -> None:
    """Raise InputError for grades that gdeval does not know."""
    name = next((name for name, measure in measures.items() if measure.NAME == "ERR"), None)
    highest = max((grade for judged in grades.values() for grade in judged.values()), default=0)
    if name and highest > HIGHEST_ERR_GRADE:
        raise InputError(
            f"measure {name!r} knows grades up to {HIGHEST_ERR_GRADE}, and the judgements have {highest}",
            remedy="leave it out, or map the grades",
        )
