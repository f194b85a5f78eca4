"""Convert others' vectors and training files into ours, and back.

    drtools convert --vectors X.npy --ids ids.txt --model MODEL -o vectors
    drtools convert --from tevatron train.jsonl -o folder
    drtools convert --to dpr --examples E --corpus C --queries Q -o train.json
    drtools convert --from msmarco-hard-negatives msmarco-hard-negatives.jsonl.gz --scores scores.pkl.gz -o public

FORMAT is tevatron, dpr, sentence-transformers or flagembedding. --from writes corpus.jsonl, queries.jsonl and
examples.jsonl; a text without an id gets one from its hash; DPR's hard negatives come first, then its easy ones. --to
sentence-transformers writes triplets, one for each positive with each negative. What a format cannot hold is counted.
--from msmarco-hard-negatives writes examples of MS MARCO's own ids from sentence-transformers' public file, with the
scores of its cross-encoder; nothing that the pickle of scores may name is run.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from typer import Argument, Option

from drtools import console, flags, output
from drtools.errors import UserError
from drtools.models.settings import check_side, fingerprints, read_settings, vector_dimension

Format = Literal["tevatron", "dpr", "sentence-transformers", "flagembedding"]
PUBLIC = "msmarco-hard-negatives"
MODES = {  # the flag that says what to do: what it needs, what it may have besides
    "--vectors": (("--ids", "--model"), ("--document-model", "--pooling", "--corpus", "--dtype", "--side")),
    "--from": (("FILE",), ("--scores",)),
    "--to": (("--examples", "--corpus", "--queries"), ("--title-separator",)),
}


def main(
    file: flags.FileOutput,
    source: Annotated[
        str | None,
        Argument(metavar="[FILE]", help="with --from: another toolkit's training file, `.gz` or `-`"),
        flags.Role.INPUT,
    ] = None,
    from_format: Annotated[
        Literal[Format, "msmarco-hard-negatives"] | None,
        Option("--from", help="read FILE, of this format, into a folder"),
    ] = None,
    to_format: Annotated[Format | None, Option("--to", help="write --examples as this format")] = None,
    scores: Annotated[
        str | None,
        Option(help="with --from msmarco-hard-negatives: a cross-encoder's scores of them, `.pkl.gz`"),
        flags.Role.INPUT,
    ] = None,
    examples: Annotated[
        str | None, Option(help="with --to: training examples: JSONL, `.gz` or `-`"), flags.Role.INPUT
    ] = None,
    corpus: Annotated[
        str | None,
        Option(help="with --to: their documents; with --vectors: the corpus that was encoded"),
        flags.Role.INPUT,
    ] = None,
    queries: Annotated[str | None, Option(help="with --to: their queries"), flags.Role.INPUT] = None,
    title_separator: Annotated[
        str | None, Option(help="with --to: between a document's title and its text; default: a space")
    ] = None,
    vectors: Annotated[
        str | None, Option(help="an .npy file [rows, dimensions] to adopt", rich_help_panel="Vectors"), flags.Role.INPUT
    ] = None,
    ids: Annotated[
        str | None, Option(help="its rows' ids, one a line", rich_help_panel="Vectors"), flags.Role.INPUT
    ] = None,
    model: Annotated[
        str | None,
        Option(help="the encoder that made it: a folder or a name on the hub", rich_help_panel="Vectors"),
        flags.Role.MODEL,
    ] = None,
    document_model: Annotated[
        str | None,
        Option(
            help="the encoder of documents, where it is another than --model, which then encodes queries",
            rich_help_panel="Vectors",
        ),
        flags.Role.MODEL,
    ] = None,
    pooling: Annotated[
        str | None, Option(help="cls, mean, max, last, weighted-mean: for a bare body", rich_help_panel="Vectors")
    ] = None,
    side: Annotated[
        Literal["document", "query"] | None,
        Option(help="what was encoded; default: document", rich_help_panel="Vectors"),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"] | None,
        Option(help="numbers of vectors.npy; default: as they are, float64 as float32", rich_help_panel="Vectors"),
    ] = None,
) -> None:
    """Compose: one of the three, by the flag that was given."""
    mode = checked_mode(
        {
            "--vectors": vectors,
            "--from": from_format,
            "--to": to_format,
            "FILE": source,
            "--scores": scores,
            "--examples": examples,
            "--corpus": corpus,
            "--queries": queries,
            "--ids": ids,
            "--model": model,
            "--document-model": document_model,
            "--pooling": pooling,
            "--dtype": dtype,
            "--side": side,
            "--title-separator": title_separator,
        }
    )
    if mode != "--to" and file.output == "-":
        raise UserError(f"{mode} writes a folder, which standard output cannot be; say -o FOLDER")
    if mode == "--vectors":
        assert vectors is not None and ids is not None and model is not None, "checked_mode asks for them"
        adopt_vectors(file, vectors, ids, (model, document_model), pooling, side or "document", corpus, dtype)
    elif mode == "--from":
        assert from_format is not None and source is not None, "checked_mode asks for them"
        read_training_file(file, source, from_format, scores)
    else:
        assert to_format is not None, "the third mode"
        assert examples is not None and corpus is not None and queries is not None, "checked_mode asks for them"
        write_training_file(
            file, to_format, examples, corpus, queries, " " if title_separator is None else title_separator
        )


def checked_mode(given: dict[str, str | None]) -> str:
    """Return the flag that says what to do; UserError if it is not one, or if the others do not go with it."""
    asked = [flag for flag in MODES if given[flag] is not None]
    if len(asked) != 1:
        raise UserError(
            f"{' and '.join(asked) or 'none of --vectors, --from, --to'} was given; expected one of --vectors X.npy, "
            "--from FORMAT FILE, --to FORMAT"
        )
    needed, possible = MODES[asked[0]]
    missing = [flag for flag in needed if given[flag] is None]
    if missing:
        raise UserError(f"{asked[0]} needs {' and '.join(missing)}; drtools convert --help shows an example")
    needless = [
        flag for flag, value in given.items() if value is not None and flag not in (asked[0], *needed, *possible)
    ]
    if needless:
        raise UserError(f"{' and '.join(needless)} does not go with {asked[0]}; leave it out")
    return asked[0]


def adopt_vectors(
    file,
    vectors: str,
    ids: str,
    models: tuple[str, str | None],
    pooling: str | None,
    side: str,
    corpus: str | None,
    dtype: str | None,
) -> None:
    """Write a vectors folder out of an array, its ids and the encoder that made it.

    `models` are the encoder, and that of documents where it is another.
    """
    from drtools.formats.foreign_vectors import copy_ids, copy_rows, open_foreign
    from drtools.formats.lines import shown
    from drtools.formats.vectors import create_array, named_fingerprints

    with output.folder(file) as work:
        array = open_foreign(vectors)
        count, dimension = array.shape
        maker, normalized, known = encoder_of(models, pooling, side, shown(vectors), dimension)
        row_ids = copy_ids(ids, work.path)
        if len(row_ids) != count:
            raise UserError(
                f"{shown(ids)}: {len(row_ids):,} ids for the {count:,} rows of {shown(vectors)}; expected one line a "
                "row, in their order"
            )
        kept = dtype or ("float16" if array.dtype.itemsize == 2 else "float32")
        into = create_array(work.path, count, dimension, kept)
        of_length_one = copy_rows(vectors, array, into, row_ids)
        if array.dtype.itemsize > into.dtype.itemsize:
            console.say(f"{shown(vectors)}: its {array.dtype} numbers were rounded to {kept}")
        if normalized:
            console.notice(
                count - of_length_one,
                f"{count - of_length_one:,} of {count:,} vectors have not length 1, though {maker} ends in "
                "normalization; is it the encoder that made them?",
            )
        work.finish(
            kind="vectors",
            side=side,
            count=count,
            dimension=dimension,
            dtype=kept,
            normalized=of_length_one == count,
            model=models[0],
            **({"document_model": models[1]} if models[1] else {}),
            rem=None,
            updated=None,
            pieces=None,
            corpus=shown(corpus) if corpus else None,
            title_separator=None,
            max_tokens=None,
            precision=None,
            counts={},
            **named_fingerprints(known),
        )
    console.say(f"{file.output}: {count:,} vectors of {dimension} dimensions")


def encoder_of(
    models: tuple[str, str | None], pooling: str | None, side: str, what: str, dimension: int
) -> tuple[str, bool, dict[str, str]]:
    """Return the name of the encoder that made vectors, whether it normalizes them, and the fingerprints of both sides.

    UserError if its vectors have another dimension.
    """
    from drtools.models.sides import pair_fingerprints, side_folders

    folders = side_folders(*models)
    maker = models[1] if side == "document" and models[1] else models[0]
    settings = read_settings(folders[side], pooling)
    check_side(settings, side, maker)
    own = vector_dimension(folders[side], settings)
    if dimension != own:
        raise UserError(
            f"{what}: {dimension} dimensions, but {maker} makes vectors of {own}; name the encoder that made them"
        )
    same = folders["query"] == folders["document"]
    known = fingerprints(folders[side], settings) if same else pair_fingerprints(folders, pooling)
    return maker, settings.normalized, known


def read_training_file(file, source: str, name: str, scores: str | None = None) -> None:
    """Write a folder with the corpus, the queries and the examples that a foreign training file holds."""
    if name == PUBLIC:
        from drtools.retrieval.public_negatives import write_public_negatives

        return write_public_negatives(file, source, scores)
    if scores:
        raise UserError(f"--scores: for --from {PUBLIC}; leave it out")
    from drtools.formats.foreign import FORMATS
    from drtools.formats.foreign_rows import Joined
    from drtools.formats.json_array import read_records
    from drtools.formats.lines import shown

    with output.folder(file) as work:
        with (
            open(work.path / "corpus.jsonl", "wb") as documents,
            open(work.path / "queries.jsonl", "wb") as queries,
            console.progress(f"reading {shown(source)}", None, "records") as progress,
        ):
            joined = Joined(source, documents, queries)
            for number, record in read_records(source):
                joined.add(number, FORMATS[name].read(record, source, number))
                progress.advance()
        if not joined.by_query:
            raise UserError(f"{shown(source)}: no records; expected training data of {name}")
        with open(work.path / "examples.jsonl", "wb") as stream:
            for example in joined.examples():
                stream.write(example.line())
        counts = joined.counts
        console.notice(
            counts["contradictions"],
            f"{counts['contradictions']:,} negatives are also a positive of their query, by their text; they are "
            "positives now",
        )
        console.notice(counts["repeated"], f"{counts['repeated']:,} documents stand twice in a list; kept once")
        console.notice(
            counts["disagreeing"],
            f"{counts['disagreeing']:,} times a query's later line gives another score or another value of a key; the "
            "first counts",
        )
        console.notice(counts["without positives"], f"{counts['without positives']:,} queries have no positive")
        work.finish(
            kind="training",
            format=name,
            documents=len(joined.documents),
            queries=len(joined.queries),
            counts=dict(counts),
        )
    console.say(f"{file.output}: {len(joined.queries):,} queries and {len(joined.documents):,} documents")


def write_training_file(file, name: str, examples: str, corpus: str, queries: str, title_separator: str) -> None:
    """Write examples, with their texts, as a foreign training file."""
    from drtools.formats.examples import read_examples
    from drtools.formats.foreign import FORMATS, IDS_OF_OURS
    from drtools.formats.foreign_rows import layout_of, rows_of
    from drtools.formats.jsonl import json_line, read_queries
    from drtools.formats.store import open_store

    form, written = FORMATS[name], 0
    counts: Counter[str] = Counter()
    with output.file(file) as work:
        layout, scored = layout_of(examples, title_separator)
        for row in rows_of(read_examples(examples), read_queries(queries), open_store(corpus), counts):
            lost = [key for key in row.others if key in IDS_OF_OURS or not form.other_keys]
            counts["other keys"] += bool(lost)
            row.others = {key: value for key, value in row.others.items() if key not in lost}
            for record in form.write(row, layout):
                if form.is_array:
                    work.stream.write(b"," if written else b"[\n")
                work.stream.write(json_line(record))
                written += 1
        if not written:
            raise UserError(
                f"{examples}: no example has a query text and a positive in the corpus; do the files belong together?"
            )
        if form.is_array:
            work.stream.write(b"]\n")
        say_lost(counts, name, layout, scored)
        work.finish(kind="training", format=name, records=written, counts=dict(counts))
    console.say(f"{file.output}: {written:,} records of {name}")


def say_lost(counts: Counter, name: str, layout, scored: int) -> None:
    """Count what the file does not say."""
    from drtools.formats.foreign import FORMATS

    console.notice(counts["without text"], f"{counts['without text']:,} examples have a query without a text; left out")
    console.notice(
        counts["without positives"],
        f"{counts['without positives']:,} examples have no positive in the corpus; left out",
    )
    console.notice(
        counts["lacking"], f"{counts['lacking']:,} documents of the examples are not in the corpus; left out"
    )
    console.notice(
        counts["contradictions"],
        f"{counts['contradictions']:,} negatives have the text of a positive of their query; left out",
    )
    pairless = name == "sentence-transformers" and layout.negatives
    console.notice(
        counts["without negatives"],
        f"{counts['without negatives']:,} examples have no negative"
        + ("; triplets cannot say them, left out" if pairless else ""),
    )
    holds_all = layout.scores and (name != "sentence-transformers" or layout.negatives)
    holds_scores = FORMATS[name].some_scores or holds_all
    console.notice(
        0 if holds_scores else scored,
        f"{scored:,} examples have scores, which {name} holds only where every positive and negative has one; left out",
    )
    console.notice(
        counts["other keys"], f"{counts['other keys']:,} examples have keys that {name} cannot hold; left out"
    )
