"""Join the vectors of two encoders into one space, where scores are s1 + mu * s2 (SPAR).

    drtools concat-spar base-vectors lambda-vectors --dev-queries queries.jsonl.gz --dev-qrels qrels/dev.tsv -o joined
    drtools index --vectors joined -o index
    drtools search --index index --queries queries.jsonl.gz -o spar.run
    drtools search --index index --queries queries.jsonl.gz --mu 0.5 -o other.run

The result is a vectors folder that index and search take; queries are encoded by both encoders and weighed by mu, which
the documents know nothing of. mu is said (--mu), or tuned on dev: 19 values from .1 to 10, further if the best stands
at an end, by both exact scores of each encoder's top 100 (the first encodes --dev-queries as --model and its like say).
--no-copy names both folders and copies no vector. Vectors of queries are joined with --mu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.search import check_weight
from drtools.errors import InputError
from drtools.evaluation.answers import check_measures
from drtools.evaluation.measures import parse_measure
from drtools.methods.spar.settings import JoiningPlan, MuTuning
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change

TIES = "equals in the tuning of mu are told apart by acc@k * k over six k, not all up to 100"
TUNING = "Tuning mu"


@dataclass(frozen=True)
class JoinFlags:
    """What is joined how, and what mu is tuned on."""

    first: Annotated[str, Argument(help="vectors folder of the base encoder"), Role.INPUT]
    second: Annotated[
        str, Argument(help="vectors folder of the second, the lexical one; of the same texts"), Role.INPUT
    ]
    how: Annotated[
        Literal["concat", "sum"], Option(help="concat: [q1, mu * q2] and [d1, d2]; sum: q1 + mu * q2 and d1 + d2")
    ] = "concat"
    mu: Annotated[float | None, Option(help="weight of the second encoder on the query side")] = None
    dev_qrels: Annotated[str | None, Option(help="judgements to tune mu on", rich_help_panel=TUNING), Role.INPUT] = None
    dev_answers: Annotated[
        str | None,
        Option(help="answers to tune mu on, in place of judgements (eval --answers)", rich_help_panel=TUNING),
        Role.INPUT,
    ] = None
    corpus: Annotated[str | None, Option(help="--dev-answers: the texts", rich_help_panel=TUNING), Role.INPUT] = None
    answer_match: Annotated[
        Literal["string", "regex"] | None,
        Option(help="--dev-answers: as eval --answer-match; default: string", rich_help_panel=TUNING),
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="their queries, encoded by both encoders", rich_help_panel=TUNING), Role.INPUT
    ] = None
    dev_query_vectors: Annotated[
        list[str] | None,
        Option(
            help="vectors folders of the queries by the first and by the second, in place of --dev-queries",
            rich_help_panel=TUNING,
        ),
        Role.INPUT,
    ] = None
    measure: Annotated[
        str | None, Option(help="what to tune for; default RR@10, with answers Success@100", rich_help_panel=TUNING)
    ] = None
    no_copy: Annotated[bool, Option("--no-copy", help="name both folders, copy no vector")] = False
    dtype: Annotated[
        Literal["float16", "float32"] | None, Option(help="numbers of vectors.npy; default: the wider of the two")
    ] = None


def main(
    folder: FolderOutput,
    flags: JoinFlags,
    encoder_flags: EncoderFlags = EncoderFlags(),
    compute: ComputeFlags = ComputeFlags(),
) -> None:
    """Compose: two folders into one, mu tuned if it was not said."""
    from drtools.methods.spar.joining import join_folders

    check_tuning(flags)
    check(flags, encoder_flags != EncoderFlags())
    asked = parse_measure(flags.measure or ("Success@100" if flags.dev_answers else "RR@10"))
    if flags.dev_answers:
        check_measures([asked])
    if flags.mu is None:
        add_change(folder.request, TIES)
    vectors = flags.dev_query_vectors
    tuning = MuTuning(
        flags.dev_qrels,
        flags.dev_answers,
        flags.corpus,
        flags.answer_match or "string",
        flags.dev_queries,
        (vectors[0], vectors[1]) if vectors else None,
        asked.name,
    )
    plan = JoiningPlan(flags.how, flags.mu, flags.dtype, copied=not flags.no_copy)
    with open_folder(folder) as work:
        made = join_folders(work, flags.first, flags.second, plan, tuning, encoder_flags, compute)
        work.finish(**made.record())
    reporting.say(f"{folder.output}: {made.count:,} vectors of {made.dimension} dimensions, mu {made.joined['mu']:g}")


def check_tuning(flags: JoinFlags) -> None:
    """Raise InputError unless mu is given, or what it is tuned on."""
    if (flags.mu is None) == (flags.dev_qrels is None and flags.dev_answers is None) or (
        flags.dev_qrels and flags.dev_answers
    ):
        raise InputError("pass one of --mu X, --dev-qrels QRELS and --dev-answers ANSWERS, which mu is tuned on")
    if flags.mu is not None:
        check_weight(flags.mu)
        of_tuning = {
            "--dev-queries": flags.dev_queries,
            "--dev-query-vectors": flags.dev_query_vectors,
            "--measure": flags.measure,
            "--corpus": flags.corpus,
            "--answer-match": flags.answer_match,
        }
        if needless := [name for name, value in of_tuning.items() if value]:
            raise InputError(
                "to tune mu with, but --mu says it", where=" and ".join(needless), remedy="leave one of the two out"
            )
    wrong_number = flags.dev_query_vectors and len(flags.dev_query_vectors) != 2
    if wrong_number or (flags.mu is None and bool(flags.dev_queries) == bool(flags.dev_query_vectors)):
        raise InputError(
            "mu is tuned with --dev-queries QUERIES, or with --dev-query-vectors twice: by the first encoder and by "
            "the second"
        )


def check(flags: JoinFlags, of_encoder: bool) -> None:
    """Raise InputError for flags that do not go together; `of_encoder` is whether anything was set about an encoder."""
    if flags.corpus and not flags.dev_answers:
        raise InputError(
            "where --dev-answers are looked for, which were not said", where="--corpus", remedy="leave it out"
        )
    if flags.answer_match and not flags.dev_answers:
        raise InputError(
            "for --dev-answers", where="--answer-match", remedy="pass them too, or leave --answer-match out"
        )
    if flags.dev_answers and not flags.corpus:
        raise InputError("--dev-answers are looked for in texts: use --corpus CORPUS")
    if not flags.dev_queries and of_encoder:
        raise InputError(
            "what is said of an encoder is for --dev-queries, which are encoded; here none are: leave it out"
        )
    if flags.no_copy and flags.dtype:
        raise InputError("no vector is written", where="--dtype with --no-copy", remedy="leave one of the two out")
