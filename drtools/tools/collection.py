r"""Write a BEIR folder out of native files, ir_datasets or the Hugging Face hub.

    drtools collection --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        --qrels qrels/test.tsv -o folder
    drtools collection source -o copied

A SOURCE is a file or folder, a name of ir_datasets (`pip install 'drtools[collections]'`), or hf:OWNER/NAME. For
instance `drtools collection msmarco-passage/train msmarco-passage/dev/small -o marco`,
`drtools collection beir/scifact -o scifact`, `drtools collection docs.sgml topics.txt qrels.txt -o robust`.

The form of a file is recognised by its content, and what it holds by its content and name; --corpus, --queries and
--qrels name it where that is not clear. Files may be packed (.gz, .bz2, .xz, .zst). --list shows all that is known.

The folder has corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv and, where questions have answers, answers.jsonl. Several
names of ir_datasets may share a folder if they share a corpus. What they fetch stays in the home of ir_datasets
(IR_DATASETS_HOME) or of the hub (HF_HOME), and is read there without a network. Data in BEIR's form need no conversion.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Argument, Option

from drtools.cli.flags.common import Role
from drtools.cli.flags.outputs import Overwrite, Renew
from drtools.errors import InputError
from drtools.outputs.opening import open_folder
from drtools.outputs.specs import OutputSpec

Files = list[str] | None


@dataclass(frozen=True)
class CollectionOutput(OutputSpec):
    """An output folder, which --list does not need."""

    output: Annotated[str, Option("-o", "--output", help="folder to write", show_default=False), Role.UNRECORDED] = "-"
    overwrite: Overwrite = False
    renew: Renew = False


def main(
    folder: CollectionOutput,
    sources: Annotated[
        Files,
        Argument(metavar="[SOURCE]", help="files, folders, names of ir_datasets, hf:OWNER/NAME"),
        Role.SOURCE,
    ] = None,
    corpus: Annotated[Files, Option(help="corpus: file of documents; may be repeated"), Role.INPUT] = None,
    queries: Annotated[Files, Option(help="file of queries or topics; may be repeated"), Role.INPUT] = None,
    qrels: Annotated[Files, Option(help="file of judgements; may be repeated"), Role.INPUT] = None,
    split: Annotated[
        str | None,
        Option(
            help="name of the judgements' split; of a folder, the one split to read; default: from the names of files, "
            "else test"
        ),
    ] = None,
    topic_field: Annotated[
        Literal["title", "description", "narrative"], Option(help="field of a topic that is the query")
    ] = "title",
    id_column: Annotated[str | None, Option(help="column or key of the id; default: a usual name")] = None,
    text_column: Annotated[str | None, Option(help="column or key of the text; default: a usual name")] = None,
    title_column: Annotated[str | None, Option(help="column or key of the title; default: a usual name")] = None,
    list_known: Annotated[
        bool, Option("--list", help="print the files, folders and names that are known, and stop"), Role.UNRECORDED
    ] = False,
) -> None:
    """Write the documents, queries and judgements of all sources into one folder."""
    from drtools.formats.collections.folder import write_collection
    from drtools.formats.collections.parts import ReadingOptions
    from drtools.formats.collections.sources import known, parts_of_sources

    if list_known:
        sys.stdout.writelines(f"{name}\t{what}\n" for name, what in known())
        return
    if folder.output == "-":
        raise InputError("a folder is written, and none was named", remedy="use -o FOLDER")
    if not (sources or corpus or queries or qrels):
        raise InputError("no source was named", remedy="name files or a data set; --list shows what is known")
    check_split(split)
    options = ReadingOptions(id_column, text_column, title_column, topic_field, split)
    with open_folder(folder) as work:
        named = {"documents": corpus or [], "queries": queries or [], "qrels": qrels or []}
        write_collection(work, parts_of_sources(sources or [], named, options))


def check_split(split: str | None) -> None:
    """Raise InputError for a split that cannot be the name of a file."""
    if split is not None and (not split or "/" in split or split.startswith(".")):
        raise InputError(f"--split {split!r}", expected="a name such as train, dev or test")
