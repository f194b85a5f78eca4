"""Make queries of a corpus's sentences, for training a dense twin of a sparse retriever without judgements (SPAR).

    drtools sample-queries --corpus psgs_w100.tsv --article-key title -o sentences.jsonl.gz
    drtools sample-queries --corpus corpus.jsonl.gz --count 100000 -o sentences.jsonl
    drtools sample-queries --queries queries.jsonl.gz --shuffle -o shuffled.jsonl

All sentences; or with --article-key by the paper's rule: of n sentences of an article's i-th passage (from 0) max(1,
round(n / (1.2 * (i + 1)))), an article being neighbouring documents of one title or field. --count keeps exactly so
many, drawn uniformly. Each line names its document. --shuffle puts words in random order, to see what a retriever makes
of word order.
"""

from __future__ import annotations

from typing import Annotated

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import Role, Seed
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.methods.spar.sentences import check_language, write_sentences, write_shuffled
from drtools.methods.spar.settings import SamplingSpec
from drtools.outputs.opening import open_file


def main(
    file: FileOutput,
    corpus: Annotated[
        str | None, Option(help="corpus to take sentences from: JSONL or TSV, `.gz` or `-`"), Role.INPUT
    ] = None,
    queries: Annotated[str | None, Option(help="queries to shuffle, in place of a corpus"), Role.INPUT] = None,
    article_key: Annotated[
        str | None, Option(help="what names a passage's article: `title`, or a field of the JSONL")
    ] = None,
    count: Annotated[int | None, Option(min=1, help="keep so many queries, drawn uniformly; default: all")] = None,
    shuffle: Annotated[bool, Option("--shuffle", help="each query's words in random order")] = False,
    language: Annotated[str, Option(help="of the corpus, for its abbreviations: en, de, zh, ja ...")] = "en",
    seed: Seed = 42,
) -> None:
    """Compose: sentences of each document, or given queries; words shuffled; lines."""
    if (corpus is None) == (queries is None):
        raise InputError(
            "pass either --corpus CORPUS (its sentences become queries) or --queries QUERIES with --shuffle"
        )
    if queries and not (shuffle and count is None and article_key is None):
        raise InputError(
            "--queries takes given queries to be shuffled: use --shuffle, without --count and --article-key"
        )
    if corpus:
        check_language(language)
    with open_file(file) as work:
        if queries:
            counts = write_shuffled(work, queries, seed)
        else:
            assert corpus is not None, "one of the two is said"
            counts = write_sentences(work, SamplingSpec(corpus, article_key, language, count, shuffle, seed))
        reporting.say(
            f"{counts['queries']:,} queries"
            + (f" of {counts['documents']:,} documents, which have {counts['sentences']:,} sentences" if corpus else "")
        )
        reporting.notice(counts["none"], f"{counts['none']:,} documents have no sentence")
        work.finish(kind="queries", counts=dict(counts))
