"""Make queries from the sentences of a corpus, without judgements (for SPAR).

    drtools sample-queries --corpus corpus.jsonl.gz --count 1000 -o sentences.jsonl
    drtools sample-queries --queries queries.jsonl.gz --shuffle -o shuffled.jsonl
    drtools sample-queries --corpus corpus.jsonl.gz --article-key title -o of-articles.jsonl.gz

They train Lambda (train-lexical), SPAR's dense copy of a sparse retriever. By default every sentence becomes a query.
With --article-key the paper's rule is used: of the n sentences of an article's i-th passage (from 0),
max(1, round(n / (1.2 * (i + 1)))) are taken. An article is a sequence of neighbouring documents with the same title or
field. --count keeps exactly that many queries, drawn uniformly. Each line names its document. --shuffle puts the words
in random order, to test how sensitive a retriever is to word order.
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
from drtools.units import counted


def main(
    file: FileOutput,
    corpus: Annotated[
        str | None,
        Option(help="corpus file to take sentences from: JSONL or TSV, may be `.gz`; `-`: standard input"),
        Role.INPUT,
    ] = None,
    queries: Annotated[str | None, Option(help="queries to shuffle, instead of a corpus"), Role.INPUT] = None,
    article_key: Annotated[
        str | None, Option(help="what identifies a passage's article: `title`, or a field of the JSONL")
    ] = None,
    count: Annotated[int | None, Option(min=1, help="keep this many queries, drawn uniformly; default: all")] = None,
    shuffle: Annotated[bool, Option("--shuffle", help="put each query's words in random order")] = False,
    language: Annotated[str, Option(help="language of the corpus, for its abbreviations: en, de, zh, ja ...")] = "en",
    seed: Seed = 42,
) -> None:
    """Write the sentences of a corpus, or given queries, as queries; shuffle their words if asked to."""
    if (corpus is None) == (queries is None):
        raise InputError(
            "pass either --corpus CORPUS (its sentences become queries) or --queries QUERIES with --shuffle"
        )
    if queries and not (shuffle and count is None and article_key is None):
        raise InputError(
            "--queries is for shuffling given queries", remedy="use --shuffle, without --count and --article-key"
        )
    if corpus:
        check_language(language)
    with open_file(file) as work:
        if queries:
            counts = write_shuffled(work, queries, seed)
        else:
            assert corpus is not None, "one of the two is given"
            counts = write_sentences(work, SamplingSpec(corpus, article_key, language, count, shuffle, seed))
        reporting.say(
            counted(counts["queries"], "query", "queries")
            + (
                f" from {counted(counts['documents'], 'document')} with {counted(counts['sentences'], 'sentence')}"
                if corpus
                else ""
            )
        )
        reporting.notice(counts["none"], f"{counted(counts['none'], 'document has', 'documents have')} no sentence")
        work.finish(kind="queries", counts=dict(counts))
