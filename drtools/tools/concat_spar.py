r"""Join the vectors of two encoders into one space, as SPAR does.

    drtools concat-spar vectors lexical-vectors --dev-queries queries.jsonl.gz \
        --dev-qrels qrels/dev.tsv -o joined
    drtools concat-spar vectors lexical-vectors --mu 0.5 --no-copy -o joined-by-half
    drtools search --vectors joined --queries queries.jsonl.gz -o spar.run
    drtools search --vectors joined --queries queries.jsonl.gz --mu 0.5 -o other.run

Scores in the joined space are s1 + mu * s2. The first encoder is usually a trained one, the second a Lambda: an encoder
that imitates a sparse retriever such as BM25 (make-lexical, train-lexical).

The result is a vectors folder for index and search. Queries are encoded by both encoders, and the weight mu is applied
on the query side only. mu is given by --mu, or tuned on dev queries: 19 values from .1 to 10 are tried, and more if the
best one is at an end. Tuning uses the exact scores by both encoders of the top 100 documents of each, and reports
whether the result is better than the better of the two encoders. --model and the other encoder flags describe the first
encoder, which encodes --dev-queries. With --no-copy the result refers to both folders and copies no vectors. To join
vectors of queries, use --mu.
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
from drtools.units import counted

TIES = "equals in the tuning of mu are told apart by acc@k * k over six k, not all up to 100"
TUNING = "Tuning mu"


@dataclass(frozen=True)
class JoinFlags:
    """What is joined, how, and what mu is tuned on."""

    first: Annotated[str, Argument(help="vectors folder of the base encoder"), Role.INPUT]
    second: Annotated[
        str, Argument(help="vectors folder of the same texts by the second (lexical) encoder"), Role.INPUT
    ]
    how: Annotated[
        Literal["concat", "sum"], Option(help="concat: [q1, mu * q2] and [d1, d2]; sum: q1 + mu * q2 and d1 + d2")
    ] = "concat"
    mu: Annotated[float | None, Option(help="weight of the second encoder's scores")] = None
    dev_qrels: Annotated[str | None, Option(help="qrels to tune mu on", rich_help_panel=TUNING), Role.INPUT] = None
    dev_answers: Annotated[
        str | None,
        Option(help="answers to tune mu on, instead of qrels (see eval --answers)", rich_help_panel=TUNING),
        Role.INPUT,
    ] = None
    corpus: Annotated[
        str | None,
        Option(help="with --dev-answers: the corpus in which to look for answers", rich_help_panel=TUNING),
        Role.INPUT,
    ] = None
    answer_match: Annotated[
        Literal["string", "regex"] | None,
        Option(help="with --dev-answers: see eval --answer-match; default: string", rich_help_panel=TUNING),
    ] = None
    dev_queries: Annotated[
        str | None, Option(help="queries to tune mu on; both encoders encode them", rich_help_panel=TUNING), Role.INPUT
    ] = None
    dev_query_vectors: Annotated[
        list[str] | None,
        Option(
            help="instead of --dev-queries: vectors folder of the queries; pass it twice, first encoder first",
            rich_help_panel=TUNING,
        ),
        Role.INPUT,
    ] = None
    measure: Annotated[
        str | None,
        Option(
            "--tune-on",
            "--measure",
            help="measure to tune for; default: RR@10, with answers Success@100",
            rich_help_panel=TUNING,
        ),
    ] = None
    no_copy: Annotated[bool, Option("--no-copy", help="refer to both folders instead of copying their vectors")] = False
    dtype: Annotated[
        Literal["float16", "float32"] | None, Option(help="data type of vectors.npy; default: the wider of the two")
    ] = None


def main(
    folder: FolderOutput,
    flags: JoinFlags,
    encoder_flags: EncoderFlags = EncoderFlags(),
    compute: ComputeFlags = ComputeFlags(),
) -> None:
    """Join two folders into one; tune mu if it is not given."""
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
    reporting.say(
        f"{folder.output}: {counted(made.count, 'vector')} of {made.dimension} dimensions, mu {made.joined['mu']:g}"
    )


def check_tuning(flags: JoinFlags) -> None:
    """Raise InputError unless mu, or the data to tune it on, is given."""
    if (flags.mu is None) == (flags.dev_qrels is None and flags.dev_answers is None) or (
        flags.dev_qrels and flags.dev_answers
    ):
        raise InputError(
            "pass one of --mu X, --dev-qrels QRELS and --dev-answers ANSWERS (mu is tuned on the last two)"
        )
    if flags.mu is not None:
        check_weight(flags.mu)
        of_tuning = {
            "--dev-queries": flags.dev_queries,
            "--dev-query-vectors": flags.dev_query_vectors,
            "--tune-on": flags.measure,
            "--corpus": flags.corpus,
            "--answer-match": flags.answer_match,
        }
        if needless := [name for name, value in of_tuning.items() if value]:
            raise InputError(
                "this is for tuning mu, but --mu sets it",
                where=" and ".join(needless),
                remedy="leave one of the two out",
            )
    wrong_number = flags.dev_query_vectors and len(flags.dev_query_vectors) != 2
    if wrong_number or (flags.mu is None and bool(flags.dev_queries) == bool(flags.dev_query_vectors)):
        raise InputError(
            "tuning mu needs --dev-queries QUERIES, or --dev-query-vectors twice: by the first encoder and by the "
            "second"
        )


def check(flags: JoinFlags, of_encoder: bool) -> None:
    """Raise InputError for flags that do not go together; `of_encoder` is whether any encoder flag was given."""
    if flags.corpus and not flags.dev_answers:
        raise InputError("--corpus needs --dev-answers", remedy="pass --dev-answers too, or leave --corpus out")
    if flags.answer_match and not flags.dev_answers:
        raise InputError(
            "--answer-match needs --dev-answers", remedy="pass --dev-answers too, or leave --answer-match out"
        )
    if flags.dev_answers and not flags.corpus:
        raise InputError("--dev-answers needs the texts in which to look for answers", remedy="use --corpus CORPUS")
    if not flags.dev_queries and of_encoder:
        raise InputError(
            "encoder flags are for encoding --dev-queries, which were not given",
            remedy="pass --dev-queries too, or leave the encoder flags out",
        )
    if flags.no_copy and flags.dtype:
        raise InputError(
            "--no-copy writes no vectors", where="--dtype with --no-copy", remedy="leave one of the two out"
        )
