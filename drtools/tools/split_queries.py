"""Split judged queries into train, dev and test.

    drtools split-queries --qrels qrels/train.tsv -o splits
    drtools split-queries --qrels qrels/train.tsv --dev 0.1 --test 0.3 --by query -o splits-by-query

The folder gets train.tsv, dev.tsv and test.tsv in BEIR form. Queries that have a relevant document in common stay in
one split, so that no document that a model was trained to find is searched for in the test. Where most queries are
connected in this way, --by query splits them one by one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import Role, Seed
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.formats.splits import groups_by_document, split_queries
from drtools.formats.trec import read_qrels, write_qrels
from drtools.outputs.opening import open_folder
from drtools.units import counted


def main(
    folder: FolderOutput,
    qrels: Annotated[str, Option(help="relevance judgements: BEIR TSV or TREC format"), Role.INPUT],
    dev: Annotated[float, Option(min=0.0, max=0.99, help="share of the queries for dev")] = 0.1,
    test: Annotated[float, Option(min=0.0, max=0.99, help="share of the queries for test")] = 0.2,
    by: Annotated[
        Literal["document", "query"],
        Option(help="document: keep queries with a common relevant document together; query: split each by itself"),
    ] = "document",
    min_rel: Annotated[int, Option(min=1, help="lowest grade that counts as relevant")] = 1,
    seed: Seed = 42,
) -> None:
    """Write one file of judgements for each split that has queries."""
    with open_folder(folder) as work:
        judged = read_qrels(qrels)
        if dev + test >= 1:
            raise InputError(
                f"--dev and --test add up to {dev + test:g}", expected="less than 1, so that train has some"
            )
        groups = groups_by_document(judged, min_rel) if by == "document" else [[query] for query in judged]
        chosen = split_queries(groups, {"test": test, "dev": dev}, seed)
        for name, queries in chosen.items():
            kept = set(queries)
            if queries:
                with open(work.path / f"{name}.tsv", "wb") as stream:
                    write_qrels(stream, {query: grades for query, grades in judged.items() if query in kept})
        sizes = {name: len(queries) for name, queries in sorted(chosen.items())}
        reporting.say(
            ", ".join(f"{name} {count:,}" for name, count in sizes.items())
            + f": {counted(len(judged), 'query', 'queries')} in {counted(len(groups), 'group')}"
        )
        work.finish(kind="qrels", queries=sizes, groups=len(groups))
