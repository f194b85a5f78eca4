r"""Write queries for documents with a language model, and judgements for them.

    drtools generate-queries --model generator --corpus corpus.jsonl.gz --prompt prompt.txt \
        --sample 20 -o generated
    drtools generate-queries --model generator --corpus corpus.jsonl.gz --prompt prompt.txt \
        --sample 20 --round-trip vectors --round-trip-depth 1000 -o found-again

MODEL is any sequence-to-sequence model (doc2query's T5) or causal model, a folder or a name on the hub. A
sequence-to-sequence model that was trained for it reads the document alone. A causal model continues --prompt, a text
in which {document} stands for the document: instructions, or examples of documents with their queries (InPars). It
writes up to the first line break. --chat-template puts the prompt into the model's own chat template.

Each query is sampled with a seed of its own, made of --seed, the document's id and the query's number, whatever is
written beside it. --batch-documents changes only the last bits of probabilities. --temperature 0 takes the likeliest
token each time.

Empty and repeated queries are left out. --round-trip keeps a query only if an index or vectors find its document among
the first --round-trip-depth. --teacher keeps a query only if a cross-encoder scores it and its document at
--least-score or higher. What was left out is counted. A stopped command continues with the batch that it had begun.

OUT has queries.jsonl, each line with its document, and qrels/train.tsv. With mine-negatives, teacher-score and
train-contrastive --loss margin-mse they are GPL (examples/gpl).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import Documents, Role, Seed, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.methods.generation.settings import GenerationSettings
from drtools.outputs.opening import open_folder
from drtools.units import counted

FILTERS = "Filters"


@dataclass(frozen=True)
class GenerationFlags(GenerationSettings):
    """The generator, its documents, how it samples, and the filters."""

    model: Annotated[
        str, Option(help="sequence-to-sequence or causal model: a folder or a name on the hub"), Role.MODEL
    ]
    corpus: Documents
    prompt: Annotated[
        str | None,
        Option(help="text file with {document} where the document stands; default: the document alone"),
        Role.INPUT,
    ] = None
    chat_template: Annotated[bool, Option("--chat-template", help="put the prompt into the model's chat template")] = (
        False
    )
    per_document: Annotated[int, Option(min=1, help="queries for each document, before the filters")] = 3
    sample: Annotated[
        int | None, Option(min=1, help="write for this many documents, drawn uniformly; default: all")
    ] = None
    temperature: Annotated[float, Option(min=0, help="temperature of sampling; 0: the likeliest token")] = 1.0
    top_k: Annotated[int, Option(min=0, help="sample from this many tokens; 0: all")] = 25
    top_p: Annotated[float, Option(min=0.01, max=1, help="sample from tokens with this share of probability")] = 0.95
    max_query_tokens: Annotated[int, Option(min=1, help="tokens that are written for a query, at most")] = 64
    max_document_tokens: Annotated[int, Option(min=1, help="truncate documents to this length")] = 350
    round_trip: Annotated[
        str | None,
        Option(help="index or vectors folder that must find a query's document", rich_help_panel=FILTERS),
        Role.INPUT,
    ] = None
    round_trip_model: Annotated[
        str | None,
        Option(help="encoder of the queries for --round-trip; default: that of its vectors", rich_help_panel=FILTERS),
        Role.MODEL,
    ] = None
    round_trip_depth: Annotated[
        int, Option(min=1, help="rank at which it must find the document, at the latest", rich_help_panel=FILTERS)
    ] = 20
    teacher: Annotated[
        list[str] | None,
        Option(
            help="cross-encoder that scores queries with their documents; repeat it to average several",
            rich_help_panel=FILTERS,
        ),
        Role.MODEL,
    ] = None
    least_score: Annotated[
        float | None, Option(help="lowest score of --teacher, a raw logit, that is kept", rich_help_panel=FILTERS)
    ] = None
    title_separator: TitleSeparator = " "
    seed: Seed = 42
    batch_documents: Annotated[
        int | None,
        Option(
            min=1,
            help="documents to write for together; default: 1 on a processor, 32 on a GPU",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None
    trust_remote_code: Annotated[bool, Option("--trust-remote-code", help="run code that comes with the model")] = False


def main(folder: FolderOutput, flags: GenerationFlags, compute: ComputeFlags) -> None:
    """Write queries and judgements into a folder."""
    with open_folder(folder) as work:
        from drtools.methods.generation.generate import dropped_in_words, generate_queries

        counts = generate_queries(work, flags, compute)
        dropped = dropped_in_words(counts)
        reporting.say(
            f"{counted(counts['queries'], 'query', 'queries')} for {counted(counts['documents'], 'document')}"
            + (f"; left out: {dropped}" if dropped else "")
        )
        lacking = counts["documents without a query"]
        reporting.notice(lacking, f"{counted(lacking, 'document has', 'documents have')} no query")
        work.finish(kind="generated-queries", counts=dict(counts))
