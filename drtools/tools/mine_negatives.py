"""Mine hard negatives: queries and judgements with one source of hits become training examples.

The source is one of --index (Lucene or FAISS), --vectors, --run, --random. All positives of a query go into its
example, none is ever a negative, and a list that falls short is never padded. --by-rank 10:46-50 labels by rank alone,
without judgements. A report says what each filter removed and how many queries fell short.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from typer import Option

from drtools import console, flags, output
from drtools.errors import UserError
from drtools.retrieval.mining import MiningFlags
from drtools.retrieval.searching import QUERIES_A_BLOCK

SOURCE, BM25 = "Source (one)", "BM25"
QUERIES_A_SAVE = (
    QUERIES_A_BLOCK  # a source counts cut and empty queries a block at a time; saved within one they would count twice
)


def main(
    file: flags.FileOutput,
    queries: flags.Queries,
    mining: MiningFlags,
    encoder_flags: flags.EncoderFlags,
    compute: flags.ComputeFlags,
    qrels: Annotated[
        str | None, Option(help="judgements: the queries to mine for and their positives"), flags.Role.INPUT
    ] = None,
    by_rank: Annotated[str | None, Option(help="P:N1-N2, ranks 1 to P positive, N1 to N2 negative; no qrels")] = None,
    index: Annotated[
        str | None, Option(help="Lucene or FAISS index folder", rich_help_panel=SOURCE), flags.Role.INPUT
    ] = None,
    vectors: Annotated[
        str | None, Option(help="vectors folder, searched exactly", rich_help_panel=SOURCE), flags.Role.INPUT
    ] = None,
    run: Annotated[str | None, Option(help="any TREC run", rich_help_panel=SOURCE), flags.Role.INPUT] = None,
    random: Annotated[bool, Option("--random", help="random documents of --corpus", rich_help_panel=SOURCE)] = False,
    corpus: Annotated[str | None, Option(help="corpus, for --random", rich_help_panel=SOURCE), flags.Role.INPUT] = None,
    query_vectors: Annotated[
        str | None, Option(help="vectors folder of the queries, in place of encoding them"), flags.Role.INPUT
    ] = None,
    min_rel: flags.MinRel = 1,
    only: flags.Only = None,
    k1: Annotated[float, Option(min=0, rich_help_panel=BM25)] = 0.9,
    b: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = 0.4,
) -> None:
    """Compose: a source of hits, the rules of mining, examples."""
    mining.check()
    sources = {"--index": index, "--vectors": vectors, "--run": run, "--random": random or None}
    named = [name for name, value in sources.items() if value]
    if len(named) != 1:
        raise UserError(f"{' and '.join(named) or 'no source'} named; say one of {', '.join(sources)}")
    if (qrels is None) == (by_rank is None):
        raise UserError("say either --qrels QRELS or --by-rank P:N1-N2")
    if random and (corpus is None or by_rank):
        raise UserError("--random draws from --corpus CORPUS, for the queries of --qrels")
    if random and mining.by_score:
        raise UserError(f"{' and '.join(mining.by_score)}: random documents have no score; leave it out")
    if by_rank and mining.said:
        raise UserError(f"{' and '.join(mining.said)}: --by-rank {by_rank} says what is taken; leave it out")
    if (run or random) and encoder_flags.said:
        raise UserError(
            f"{' and '.join(encoder_flags.said)}: {'a run' if run else '--random'} needs no encoder; leave it out"
        )
    with output.file(file) as work:
        from drtools.retrieval.texts import judged_queries

        positives, texts = (
            positives_of(qrels, queries, min_rel, only) if qrels else (None, judged_queries(queries, only))
        )
        if random:
            source = random_source(corpus, positives, mining)
        else:
            source = open_source(index, vectors, run, encoder_flags, compute, query_vectors, (k1, b))
        counts = mine(source, list(texts.items()), positives, mining, by_rank, work)
        report(counts, mining, by_rank)
        work.finish(kind="examples", counts=dict(counts))


def positives_of(
    qrels: str, queries: str, min_rel: int, only: str | None = None
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return each query's relevant documents, and the texts of the queries that have any."""
    from drtools.formats.trec import read_qrels
    from drtools.retrieval.texts import judged_queries

    judged = read_qrels(qrels)
    texts = judged_queries(queries, qrels)
    if only:
        kept = read_qrels(only)
        texts = {query_id: text for query_id, text in texts.items() if query_id in kept}
        if not texts:
            raise UserError(f"{only}: judges none of the queries that {qrels} judges; do the two belong together?")
    relevant = {
        query_id: [document for document, grade in judged[query_id].items() if grade >= min_rel] for query_id in texts
    }
    without = [query_id for query_id, documents in relevant.items() if not documents]
    console.notice(
        len(without), f"{len(without):,} queries have no relevant document (grade {min_rel} or more); left out"
    )
    for query_id in without:
        del relevant[query_id], texts[query_id]
    if not texts:
        raise UserError(f"{qrels}: no query has a document of grade {min_rel} or more; lower --min-rel")
    return relevant, texts


def open_source(index, vectors, run, encoder_flags, compute, query_vectors, bm25: tuple[float, float]):
    """Open the source that was named."""
    from drtools.models.device import all_threads
    from drtools.retrieval.searching import LuceneSource, index_kind, open_dense
    from drtools.retrieval.unsearched import RunSource

    if run:
        return RunSource(run)
    if index and index_kind(index) == "lucene":
        if query_vectors or encoder_flags.said:
            raise UserError(
                f"{index}: a Lucene index, which no encoder searches; name a FAISS index or vectors, or leave "
                f"{' and '.join([*encoder_flags.said, *(['--query-vectors'] if query_vectors else [])])} out"
            )
        return LuceneSource(index, *bm25, threads=compute.threads or all_threads())
    return open_dense(vectors, index, encoder_flags, compute, query_vectors)


def random_source(corpus, positives, mining):
    """Return a source of random documents: enough that positives among them can be taken out."""
    from drtools.formats.store import open_store
    from drtools.retrieval.unsearched import RandomSource

    return RandomSource(open_store(corpus), mining.seed, mining.negatives, positives)


def mine(source, queries, positives, mining, by_rank, work) -> Counter:
    """Write one example a query, in order; what is written counts as done every so many queries."""
    from drtools.formats.examples import Example
    from drtools.retrieval.mining import choose_negatives, label_by_rank, parse_by_rank, parse_ranks

    labels = parse_by_rank(by_rank) if by_rank else None
    depth = labels[1][1] if labels else parse_ranks(mining.ranks)[1]
    counts, done = Counter(work.state.get("counts", {})), work.state.get("done", 0)
    with console.progress("mining", len(queries), "queries", done) as progress:
        for found in source.search(queries[done:], depth, positives or {}):
            if labels:
                example = label_by_rank(found.query_id, found.hits, *labels)
                counts["too few hits"] += example is None
            else:
                known = [score for score in found.asked.values() if score is not None]
                counts["positives without a score"] += len(found.asked) - len(known)
                negatives = choose_negatives(
                    found.query_id, found.hits, set(positives[found.query_id]), min(known, default=None), mining, counts
                )
                example = Example(
                    found.query_id,
                    positives[found.query_id],
                    list(negatives),
                    list(found.asked.values()),
                    list(negatives.values()),
                )
                counts["short"] += len(negatives) < mining.negatives
                counts["none"] += not negatives
            counts["queries"] += 1
            if example:
                counts["examples"] += 1
                counts["negatives"] += len(example.negatives)
                work.stream.write(example.line())
            progress.advance(1)
            if counts["queries"] % QUERIES_A_SAVE == 0:
                work.save(done=done + progress.done - progress.begin.done, counts=dict(counts + source.noted))
    return counts + source.noted


RELAX = {
    "--max-score": "raise it",
    "--min-score": "lower it",
    "--absolute-margin": "lower it",
    "--relative-margin": "lower it",
}


def report(counts: Counter, mining, by_rank: str | None) -> None:
    """Say what was mined, what each filter removed, and what to relax where queries fell short."""
    console.say(
        f"{counts['examples']:,} examples with {counts['negatives']:,} negatives, out of {counts['queries']:,} queries"
    )
    for name, words in (("truncated", "cut"), ("empty", "empty")):
        console.notice(counts[name], f"{counts[name]:,} of {counts['queries']:,} queries were {words}")
    if by_rank:
        console.notice(
            counts["too few hits"],
            f"{counts['too few hits']:,} queries have too few hits for --by-rank {by_rank}; left out",
        )
        return
    removed = [
        f"{counts[name]:,} were positives" if name == "positives" else f"{name} removed {counts[name]:,}"
        for name in ("positives", *RELAX)
        if counts[name]
    ]
    if removed:
        console.say(f"of the hits at raw ranks {mining.ranks}: {'; '.join(removed)}")
    advice = [f"{name}: {how}" for name, how in RELAX.items() if counts[name]] or [f"--ranks {mining.ranks}: widen it"]
    console.notice(
        counts["short"],
        f"{counts['short']:,} queries have fewer than {mining.negatives} negatives, {counts['none']:,} have none "
        f"({'; '.join(advice)}; or lower --negatives)",
    )
    if mining.needs_positive_scores:
        console.notice(
            counts["positives without a score"],
            f"{counts['positives without a score']:,} positives have no score in this source; margins compare with the "
            "others",
        )
