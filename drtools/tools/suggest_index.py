"""Compare a dozen FAISS factories on your vectors: size, speed and recall.

    drtools suggest-index --vectors vectors --query-vectors query-vectors
    drtools suggest-index --vectors vectors --sample 100000 --json -o factories.json

Each factory is built and searched. The table has the bytes of its file for each document, the milliseconds of a query
on one thread, and the recall of the exact top 10 and 100. The last recall is that of the top 10 after the top 100 got
exact scores from the vectors (search --rescore). A star marks the factories than which no other is at least as small,
as fast and as good (by recall at 100), and better in one of these. Build the one that you choose with `drtools index
--factory`.

Without --query-vectors, a sample of the documents serves as queries, which are easier than real ones. A stopped
comparison continues where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Option

from drtools.cli.flags.common import DryRun, Role, Seed, Threads
from drtools.cli.flags.outputs import FileOutput
from drtools.outputs.opening import open_file
from drtools.search.specs import SuggestionSpec
from drtools.units import counted

if TYPE_CHECKING:
    from typing import Any


def main(
    file: FileOutput,
    vectors: Annotated[str, Option(help="vectors folder of the documents"), Role.INPUT],
    query_vectors: Annotated[
        str | None, Option(help="vectors folder of queries; default: a sample of the documents"), Role.INPUT
    ] = None,
    factory: Annotated[
        list[str] | None,
        Option(help="FAISS factory string, or int8, int4, binary or rabitq; repeat it; default: a dozen"),
    ] = None,
    sample: Annotated[int | None, Option(min=1, help="number of documents to try on, at random; default: all")] = None,
    query_count: Annotated[int, Option(min=1, help="number of queries, at most")] = 1000,
    json: Annotated[bool, Option("--json", help="write the results as one JSON object")] = False,
    seed: Seed = 42,
    threads: Threads = 0,
    dry_run: DryRun = False,
) -> None:
    """Measure each factory, and write the table."""
    spec = SuggestionSpec(vectors, query_vectors, factory, sample, query_count, seed, threads)
    from drtools.search.suggesting import say_plan, suggest

    if dry_run:
        return say_plan(spec)
    with open_file(file) as work:
        import orjson

        found = suggest(work, spec)
        assert work.stream is not None, "the table is a file"
        work.stream.write(orjson.dumps(found) + b"\n" if json else table(found, query_vectors is None).encode())
        work.finish(kind="suggestions", **found)


def table(found: dict[str, Any], are_documents: bool) -> str:
    """Return the results as aligned text."""
    from drtools.cli import terminal

    whose = "documents as queries" if are_documents else "queries"
    rows = [
        ["factory", "bytes a document", "ms a query", "recall@10", "recall@100", "recall@10, re-scored", "build s", ""]
    ]
    for each in found["factories"]:
        numbers = [f"{each[name]:.4f}" for name in ("recall_10", "recall_100", "rescored_10")]
        size, speed = f"{each['bytes_a_document']:,.1f}", f"{each['ms_a_query']:.3f}"
        rows.append([each["factory"], size, speed, *numbers, f"{each['build_seconds']:.1f}", "*" * each["pareto"]])
    head = (
        f"{counted(found['documents'], 'vector')} of {found['dimension']} dimensions, {found['queries']:,} {whose}, "
        "one thread\n"
    )
    return head + terminal.aligned(rows) + "\n"
