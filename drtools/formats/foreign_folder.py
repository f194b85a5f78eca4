"""Training data, questions and runs of others, written into a folder: examples by ids, questions, or a run."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats import plain_pickles
from drtools.formats.foreign_examples import (
    Group,
    colbert_groups,
    hard_json_groups,
    id_triple_groups,
    joined_examples,
    simlm_groups,
)
from drtools.formats.foreign_runs import Hits, read_dpr_output, read_msmarco_run
from drtools.formats.json_lines import checked_id, json_line
from drtools.formats.lines import open_bytes, shown
from drtools.formats.questions import Question, read_questions
from drtools.formats.trec import read_qrels, write_run
from drtools.outputs.fingerprints import file_fingerprint
from drtools.outputs.work import Work
from drtools.units import counted

EXAMPLES = ("drhard", "simlm", "colbert", "msmarco-id-triples")
QUESTIONS = "questions"
RUNS = ("msmarco-run", "dpr-output")
RUN = "run.trec"


class ForeignSpec(NamedTuple):
    """What goes with a file: judgements and maps of DRhard's, the name of the teacher of its scores."""

    qrels: str | None = None
    query_map: str | None = None
    document_map: str | None = None
    teacher: str | None = None


def write_foreign_folder(work: Work, source: str, name: str, spec: ForeignSpec) -> str:
    """Write a folder of what a file of the format `name` holds, finish it, and return a line about it."""
    if name in EXAMPLES:
        return _write_examples(work, source, name, spec)
    return _write_questions(work, source) if name == QUESTIONS else _write_run(work, source, name)


def read_map(path: str) -> dict[str, str]:
    """Return {number: id} of a pickled {id: number}, as DRhard keeps them; nothing that it names is run."""
    try:
        with open_bytes(path) as stream:
            held = plain_pickles.load(stream)
    except (pickle.UnpicklingError, AttributeError, ImportError, TypeError) as error:
        raise InputError(f"not a pickle of numbers ({error})", where=shown(path), expected="{id: number}") from None
    except (EOFError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"could not be read as a pickle ({error})", where=shown(path), remedy="is it whole?") from None
    if not isinstance(held, dict) or not all(isinstance(number, int) for number in held.values()):
        raise InputError(f"found a {type(held).__name__}", where=shown(path), expected="a pickled {id: number}")
    return {str(number): checked_id(known, path, 0) for known, number in held.items()}


def _groups(source: str, name: str, spec: ForeignSpec) -> Iterator[Group]:
    if name == "drhard":
        if spec.qrels is None:
            raise InputError(
                f"drhard needs {param('qrels')}", where=shown(source), remedy="pass the judgements of its preprocessing"
            )
        maps: list[Mapping[str, str] | None] = [
            read_map(path) if path else None for path in (spec.query_map, spec.document_map)
        ]
        return hard_json_groups(source, read_qrels(spec.qrels), *maps)
    read = {"simlm": simlm_groups, "colbert": colbert_groups, "msmarco-id-triples": id_triple_groups}[name]
    return read(source)


def _write_examples(work: Work, source: str, name: str, spec: ForeignSpec) -> str:
    counts: Counter[str] = Counter()
    teacher = f"{spec.teacher}@{file_fingerprint(Path(source))}" if spec.teacher else None
    has_texts = False
    with (
        open(work.path / "examples.jsonl", "wb") as stream,
        open(work.path / "queries.jsonl", "wb") as queries,
        reporting.progress(f"reading {shown(source)}", None, "queries") as progress,
    ):
        for example, text in joined_examples(_groups(source, name, spec), source, teacher, counts):
            stream.write(example.line())
            progress.advance()
            if text is not None:
                has_texts = True
                queries.write(json_line({"_id": example.query_id, "text": text}))
    if not counts["queries"]:
        raise InputError("no records", where=shown(source), expected=f"training data of {name}")
    if not has_texts:
        (work.path / "queries.jsonl").unlink()
    _tell(counts)
    if spec.teacher and not counts["scored"]:
        raise InputError("the file has no scores", where=shown(source), remedy=f"leave out {param('teacher')}")
    work.finish(kind="training", format=name, queries=counts["queries"], counts=dict(counts))
    return f"{counted(counts['queries'], 'query', 'queries')} with {counted(counts['negatives'], 'negative')}"


def _tell(counts: Counter[str]) -> None:
    reporting.notice(
        counts["contradictions"],
        f"{counted(counts['contradictions'], 'negative is', 'negatives are')} a positive of the query; kept as "
        "positives only",
    )
    reporting.notice(
        counts["without positives"],
        f"{counted(counts['without positives'], 'query has', 'queries have')} no positive",
    )
    reporting.notice(
        counts["without negatives"],
        f"{counted(counts['without negatives'], 'query has', 'queries have')} no negative",
    )


def _write_questions(work: Work, source: str) -> str:
    """Write queries.jsonl and answers.jsonl, and examples.jsonl where passages are named."""
    count, with_passages = 0, 0
    with (
        open(work.path / "queries.jsonl", "wb") as queries,
        open(work.path / "answers.jsonl", "wb") as answers,
        open(work.path / "examples.jsonl", "wb") as examples,
        reporting.progress(f"reading {shown(source)}", None, "questions") as progress,
    ):
        for question in read_questions(source):
            queries.write(json_line({"_id": question.id, "text": question.text}))
            answers.write(json_line({"_id": question.id, "answers": question.answers}))
            if question.passages:
                with_passages += 1
                record = {"query_id": question.id, "positives": question.passages, "negatives": []}
                examples.write(json_line(record))
            count += 1
            progress.advance()
    if not with_passages:
        (work.path / "examples.jsonl").unlink()
    work.finish(kind="training", format=QUESTIONS, queries=count, counts={"with passages": with_passages})
    return counted(count, "question")


def _write_run(work: Work, source: str, name: str) -> str:
    """Write a run in TREC's form, and what DPR's output says of its questions."""
    count = 0
    with open(work.path / RUN, "wb") as stream:
        if name == "msmarco-run":
            for query_id, hits in read_msmarco_run(source):
                write_run(stream, [(query_id, hits)], "msmarco")
                count += 1
        else:
            questions = list[Question]()

            def found() -> Iterator[tuple[str, Hits]]:
                for question, hits in read_dpr_output(source):
                    questions.append(question)
                    yield question.id, dict(sorted(hits.items(), key=lambda each: (-each[1], each[0])))

            write_run(stream, found(), "dpr")
            count = len(questions)
            _write_texts(work, questions)
    if not count:
        raise InputError("no lists", where=shown(source), expected=f"a run of {name}")
    work.finish(kind="training", format=name, queries=count)
    return f"{RUN} of {counted(count, 'query', 'queries')}"


def _write_texts(work: Work, questions: list[Question]) -> None:
    with open(work.path / "queries.jsonl", "wb") as stream:
        stream.writelines(json_line({"_id": each.id, "text": each.text}) for each in questions)
    answered = [each for each in questions if each.answers]
    if answered:
        with open(work.path / "answers.jsonl", "wb") as stream:
            stream.writelines(json_line({"_id": each.id, "answers": each.answers}) for each in answered)
