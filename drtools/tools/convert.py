r"""Convert training files from and to other toolkits, and vectors from them.

    drtools convert --to tevatron --examples examples.jsonl --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz -o tevatron.jsonl
    drtools convert --from tevatron tevatron.jsonl -o from-tevatron
    drtools convert --vectors vectors/vectors.npy --ids vectors/ids.txt --model star -o converted

The formats are tevatron, dpr, sentence-transformers and flagembedding. --from writes corpus.jsonl, queries.jsonl and
examples.jsonl; a text without an id gets one from its hash. --to sentence-transformers writes n-tuples of a positive
and several negatives, in which every positive and every negative occurs at least once; their number is printed before
anything is written. Data that a format cannot hold is counted and reported.

`drtools convert --from msmarco-hard-negatives msmarco-hard-negatives.jsonl.gz --scores scores.pkl.gz -o public` reads
sentence-transformers' public file, and writes examples with MS MARCO's own ids and the scores of its cross-encoder.
--vectors reads .npy, raw arrays (--columns), pickles of Tevatron and DPR, Pyserini's FAISS folders and parquet. Reading
a pickle never runs code. `--from triples` reads texts (MS MARCO's, RocketQA's); drhard (hard.json with --qrels), simlm,
colbert and msmarco-id-triples give examples with ids; questions (DPR's qa.csv, NQ-open, PAQ, EntityQuestions) gives
queries and answers; msmarco-run and dpr-output give run.trec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from typer import Argument, Option

from drtools import reporting, units
from drtools.cli.flags.common import Role
from drtools.cli.flags.foreign import FORMATS_OF_FLAGS, Foreign, ForeignFlags
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.formats.foreign_folder import EXAMPLES, QUESTIONS, RUNS, write_foreign_folder
from drtools.formats.toolkit_files import TUPLES, TupleOptions, Writer, read_training_file
from drtools.outputs.opening import open_file, open_folder
from drtools.outputs.request import add_change
from drtools.search.public_negatives import write_public_negatives

Format = Literal["tevatron", "dpr", "sentence-transformers", "flagembedding"]
Easy = Literal["drop", "append", "fill"]
PUBLIC = "msmarco-hard-negatives"
MODES = {  # the flag that says what to do: what it needs, what it may have besides
    "--vectors": (
        ("--model",),
        (
            *("--ids", "--columns", "--raw-dtype", "--document-model", "--pooling", "--corpus", "--title-separator"),
            *("--dtype", "--side"),
        ),
    ),
    "--from": (("FILE",), ("--scores", "--easy-negatives", *ForeignFlags().by_flag())),
    "--to": (
        ("--examples", "--corpus", "--queries"),
        ("--title-separator", "--negatives", "--rows-per-query", "--max-rows", "--without-negatives", "--dry-run"),
    ),
}
ONLY_FOR = {  # flags that go with some formats alone
    "--negatives": ("sentence-transformers",),
    "--rows-per-query": ("sentence-transformers",),
    "--max-rows": ("sentence-transformers",),
    "--dry-run": ("sentence-transformers",),
    "--without-negatives": ("tevatron", "flagembedding"),
    "--easy-negatives": ("dpr",),
    **FORMATS_OF_FLAGS,
}
TO_TUPLES = "With --to sentence-transformers"
# What this version makes in another way than 0.1.0 did, by the same command
CHANGES_OF_TO = {
    "sentence-transformers": "rows are n-tuples in place of each positive with each negative",
    "tevatron": "queries without a negative are left out",
    "flagembedding": "queries without a negative are left out",
}
CHANGES_OF_FROM = {"dpr": "easy negatives are not added to the hard ones"}


@dataclass(frozen=True)
class ConvertFlags:
    """What is converted into what."""

    source: Annotated[
        str | None,
        Argument(metavar="[FILE]", help="with --from: training file to read, may be `.gz`; `-`: standard input"),
        Role.INPUT,
    ] = None
    from_format: Annotated[
        Literal[Format, Foreign, "msmarco-hard-negatives"] | None,
        Option(
            "--from",
            metavar="FORMAT",
            help="read FILE in this format, and write a folder: "
            + ", ".join((*get_args(Format), *get_args(Foreign), PUBLIC)),
        ),
    ] = None
    to_format: Annotated[Format | None, Option("--to", help="write --examples in this format")] = None
    scores: Annotated[
        str | None,
        Option(help="with --from msmarco-hard-negatives: the cross-encoder's scores, `.pkl.gz`"),
        Role.INPUT,
    ] = None
    examples: Annotated[
        str | None,
        Option(help="with --to: training examples: JSONL, may be `.gz`; `-`: standard input"),
        Role.INPUT,
    ] = None
    corpus: Annotated[
        str | None,
        Option(
            help="with --to: corpus of the examples; with --vectors: the corpus (or queries) that was encoded; 16 rows "
            "are encoded again and compared"
        ),
        Role.INPUT,
    ] = None
    queries: Annotated[str | None, Option(help="with --to: queries of the examples"), Role.INPUT] = None
    title_separator: Annotated[
        str | None,
        Option(help="with --to and --vectors: text put between a document's title and its text; default: a space"),
    ] = None
    negatives: Annotated[
        int | None,
        Option(
            min=1,
            help="negatives in a row; default: as many as every query has, at most 10; where there are fewer they are "
            "repeated",
            rich_help_panel=TO_TUPLES,
        ),
    ] = None
    rows_per_query: Annotated[
        int | None, Option(min=1, help="maximum number of rows per query; default: no limit", rich_help_panel=TO_TUPLES)
    ] = None
    max_rows: Annotated[
        int | None,
        Option(min=1, help="stop with an error above this many rows; default: 1,000,000", rich_help_panel=TO_TUPLES),
        Role.UNRECORDED,
    ] = None
    without_negatives: Annotated[
        Literal["drop", "keep"] | None,
        Option(
            help="with --to tevatron or flagembedding: drop (the default) or keep queries without negatives, at which "
            "their trainers fail"
        ),
    ] = None
    easy_negatives: Annotated[
        Easy | None,
        Option(
            help="with --from dpr: drop negative_ctxs (the default), append them to the hard negatives, or use them to "
            "fill queries without hard negatives"
        ),
    ] = None
    vectors: Annotated[
        str | None,
        Option(
            help="vectors to convert: .npy, parquet, a pickle of Tevatron or DPR, a folder of their shards or of "
            "Pyserini's FAISS index, or a raw array with --columns",
            rich_help_panel="Vectors",
        ),
        Role.INPUT,
    ] = None
    ids: Annotated[
        str | None,
        Option(
            help="ids of the rows, if the file of the vectors has none: one per line, .npy, or raw integers (.memmap)",
            rich_help_panel="Vectors",
        ),
        Role.INPUT,
    ] = None
    columns: Annotated[
        int | None, Option(min=1, help="dimensions of a raw array (.memmap)", rich_help_panel="Vectors")
    ] = None
    raw_dtype: Annotated[
        Literal["float16", "float32"] | None,
        Option(help="data type of a raw array; default: float32", rich_help_panel="Vectors"),
    ] = None
    model: Annotated[
        str | None,
        Option(help="encoder that made the vectors: a folder or a name on the hub", rich_help_panel="Vectors"),
        Role.MODEL,
    ] = None
    document_model: Annotated[
        str | None,
        Option(
            help="separate encoder for documents; --model then encodes queries only",
            rich_help_panel="Vectors",
        ),
        Role.MODEL,
    ] = None
    pooling: Annotated[
        str | None,
        Option(
            help="pooling of a model without one of its own: cls, mean, max, last or weighted-mean",
            rich_help_panel="Vectors",
        ),
    ] = None
    side: Annotated[
        Literal["document", "query"] | None,
        Option(help="what was encoded; default: document", rich_help_panel="Vectors"),
    ] = None
    dtype: Annotated[
        Literal["float16", "float32"] | None,
        Option(
            help="data type of vectors.npy; default: unchanged, but float64 becomes float32", rich_help_panel="Vectors"
        ),
    ] = None
    dry_run: Annotated[
        bool,
        Option("--dry-run", help="print the number of rows, and stop", rich_help_panel=TO_TUPLES),
        Role.UNRECORDED,
    ] = False

    def by_flag(self) -> dict[str, object]:
        """Return the flags' values by their names."""
        return {
            "--vectors": self.vectors,
            "--from": self.from_format,
            "--to": self.to_format,
            "FILE": self.source,
            "--scores": self.scores,
            "--examples": self.examples,
            "--corpus": self.corpus,
            "--queries": self.queries,
            "--ids": self.ids,
            "--columns": self.columns,
            "--raw-dtype": self.raw_dtype,
            "--model": self.model,
            "--document-model": self.document_model,
            "--pooling": self.pooling,
            "--dtype": self.dtype,
            "--side": self.side,
            "--title-separator": self.title_separator,
            "--negatives": self.negatives,
            "--rows-per-query": self.rows_per_query,
            "--max-rows": self.max_rows,
            "--without-negatives": self.without_negatives,
            "--easy-negatives": self.easy_negatives,
            "--dry-run": self.dry_run or None,
        }


def main(file: FileOutput, flags: ConvertFlags, foreign: ForeignFlags) -> None:
    """Do one of the three conversions, depending on the flag that was given."""
    mode = checked_mode(flags.by_flag() | foreign.by_flag())
    if mode != "--to" and file.output == "-":
        raise InputError(f"{mode} writes a folder and cannot write to standard output", remedy="use -o FOLDER")
    if mode == "--vectors":
        adopt_vectors(file, flags)
    elif mode == "--from":
        read_foreign(file, flags, foreign)
    else:
        write_foreign(file, flags)


def checked_mode(given: Mapping[str, object]) -> str:
    """Return the flag that selects the conversion; raise InputError unless it is exactly one and the others fit it."""
    asked = [flag for flag in MODES if given[flag] is not None]
    if len(asked) != 1:
        raise InputError(
            f"{' and '.join(asked)} were given" if asked else "no conversion was chosen",
            expected="one of --vectors X.npy, --from FORMAT FILE, --to FORMAT",
        )
    needed, possible = MODES[asked[0]]
    missing = [flag for flag in needed if given[flag] is None]
    if missing:
        raise InputError(f"{asked[0]} needs {' and '.join(missing)}", remedy="drtools convert --help shows an example")
    needless = [
        flag for flag, value in given.items() if value is not None and flag not in (asked[0], *needed, *possible)
    ]
    if needless:
        raise InputError(f"{' and '.join(needless)} cannot be used with {asked[0]}", remedy="leave it out")
    for flag, formats in ONLY_FOR.items():
        if given[flag] is not None and given[asked[0]] not in formats:
            raise InputError(
                f"{flag} is only for {' and '.join(formats)}, not for {given[asked[0]]}", remedy="leave it out"
            )
    return asked[0]


def adopt_vectors(file: FileOutput, flags: ConvertFlags) -> None:
    """Write a vectors folder from an array, its ids and the encoder that made it."""
    from drtools.encoding.adopting import AdoptionSpec, adopt

    assert flags.vectors is not None and flags.model is not None, "checked_mode asks for them"
    spec = AdoptionSpec(
        flags.vectors,
        flags.ids,
        flags.model,
        flags.document_model,
        flags.pooling,
        flags.side or "document",
        flags.corpus,
        flags.dtype,
        flags.columns,
        flags.raw_dtype,
        flags.title_separator,
    )
    with open_folder(file) as work:
        made = adopt(work, spec)
        work.finish(**made.record())
    reporting.say(f"{file.output}: {units.counted(made.count, 'vector')} of {made.dimension} dimensions")


def read_foreign(file: FileOutput, flags: ConvertFlags, foreign: ForeignFlags) -> None:
    """Write a folder with the corpus, the queries and the examples of another toolkit's training file."""
    source, name = flags.source, flags.from_format
    assert source is not None and name is not None, "checked_mode asks for them"
    if name == PUBLIC:
        return write_public_negatives(file, source, flags.scores, foreign.systems, foreign.per_system)
    if flags.scores:
        raise InputError(f"--scores is only for --from {PUBLIC}", remedy="leave it out")

    if name in (*EXAMPLES, QUESTIONS, *RUNS):
        with open_folder(file) as work:
            reporting.say(f"{file.output}: {write_foreign_folder(work, source, name, foreign.spec())}")
        return
    if name in CHANGES_OF_FROM:
        add_change(file.request, CHANGES_OF_FROM[name])
    with open_folder(file) as work:
        joined = read_training_file(source, name, work.path, flags.easy_negatives)
        documents = len(joined.documents) - len(joined.twins)
        work.finish(
            kind="training",
            format=name,
            documents=documents,
            queries=len(joined.queries),
            counts=dict(joined.counts),
        )
    queries = units.counted(len(joined.queries), "query", "queries")
    reporting.say(f"{file.output}: {queries} and {units.counted(documents, 'document')}")


def write_foreign(file: FileOutput, flags: ConvertFlags) -> None:
    """Write examples with their texts as another toolkit's training file."""
    name, examples, corpus, queries = flags.to_format, flags.examples, flags.corpus, flags.queries
    assert name is not None and examples is not None, "checked_mode asks for them"
    assert corpus is not None and queries is not None, "checked_mode asks for them"
    sources = (examples, corpus, queries, " " if flags.title_separator is None else flags.title_separator)
    options = TupleOptions(flags.negatives, flags.rows_per_query, flags.max_rows)
    if flags.dry_run:
        Writer(name, *sources).plan_tuples(options)
        return
    if name in CHANGES_OF_TO:
        add_change(file.request, CHANGES_OF_TO[name])
    with open_file(file) as work:
        writer = Writer(name, *sources)
        if name == TUPLES:
            writer.plan_tuples(options)
        for line in writer.lines(flags.without_negatives == "keep"):
            work.stream.write(line)
        writer.tell_lost(flags.without_negatives)
        work.finish(kind="training", format=name, records=writer.written, counts=dict(writer.counts))
    reporting.say(f"{file.output}: {units.counted(writer.written, 'record')} of {name}")
