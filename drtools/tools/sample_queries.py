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

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import Role, Seed
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.outputs import work as output

DOCUMENTS_A_SAVE = 20_000


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
            "say either --corpus CORPUS (its sentences become queries) or --queries QUERIES with --shuffle"
        )
    if queries and not (shuffle and count is None and article_key is None):
        raise InputError(
            "--queries takes given queries to be shuffled: say --shuffle, without --count and --article-key"
        )
    if corpus:
        from drtools.methods.spar.sentences import check_language

        check_language(language)
    with output.file(file) as work:
        if queries:
            counts = write_shuffled(queries, seed, work)
        else:
            assert corpus is not None, "one of the two is said"
            counts = write_sentences(corpus, article_key, language, count, shuffle, seed, work)
        reporting.say(
            f"{counts['queries']:,} queries"
            + (f" of {counts['documents']:,} documents, which have {counts['sentences']:,} sentences" if corpus else "")
        )
        reporting.notice(counts["none"], f"{counts['none']:,} documents have no sentence")
        work.finish(kind="queries", counts=dict(counts))


def write_shuffled(queries: str, seed: int, work) -> Counter:
    """Write given queries with their words in random order."""
    from drtools.formats.corpora import read_queries
    from drtools.formats.json_lines import json_line
    from drtools.methods.spar.sentences import shuffle_words
    from drtools.randomness import generator

    texts = read_queries(queries)
    work.stream.writelines(
        json_line({"_id": query_id, "text": shuffle_words(text, generator(seed, "shuffle", query_id))})
        for query_id, text in texts.items()
    )
    return Counter(queries=len(texts))


def write_sentences(
    corpus: str, article_key: str | None, language: str, count: int | None, shuffle: bool, seed: int, work
) -> Counter:
    """Write the sampled sentences document by document; what is written counts as done every so many documents."""
    from drtools.formats.json_lines import json_line
    from drtools.methods.spar.sentences import sample, shuffle_words
    from drtools.randomness import generator

    counts = Counter(work.state.get("counts", {}))
    total = work.state.get("total")
    if count and total is None:
        total = count_sentences(corpus, article_key, language, seed)
        reporting.notice(total < count, f"the corpus gives {total:,} queries, fewer than the {count:,} of --count")
    documents = sample(corpus, article_key, language, seed, skip=counts["documents"])
    with reporting.progress("sampling", None, "documents", counts["documents"]) as progress:
        for sampled in thinned(documents, count, total, seed, counts):
            for number, text in sampled.sentences:
                query_id = f"{sampled.document}-{number}"
                text = shuffle_words(text, generator(seed, "shuffle", query_id)) if shuffle else text
                work.stream.write(json_line({"_id": query_id, "text": text, "document": sampled.document}))
            counts.update(documents=1, sentences=sampled.split, queries=len(sampled.sentences), none=not sampled.split)
            progress.advance(1)
            if counts["documents"] % DOCUMENTS_A_SAVE == 0:
                work.save(counts=dict(counts), total=total)
    return counts


def count_sentences(corpus: str, article_key: str | None, language: str, seed: int) -> int:
    """Return how many queries the corpus gives before --count."""
    from drtools.methods.spar.sentences import sample

    with reporting.progress("counting", None, "documents") as progress:
        total = 0
        for sampled in sample(corpus, article_key, language, seed):
            total += len(sampled.sentences)
            progress.advance(1)
    return total


def thinned(documents: Iterator, count: int | None, total: int | None, seed: int, counts: Counter) -> Iterator:
    """Yield the documents' sentences, with a count exactly so many of all.

    `counts` is what has been written before each.
    """
    from drtools.methods.spar.sentences import thin

    for sampled in documents:
        if count and total is not None:
            offered = len(sampled.sentences)
            sampled = thin(sampled, seed, count - counts["queries"], total - counts["offered"])
            counts["offered"] += offered
        yield sampled
