"""Mine hard negatives: queries and judgements with one source of hits become training examples.

The source is one of --index (Lucene or FAISS), --vectors, --run, --random. All positives of a query go into its
example, none is ever a negative, and a list that falls short is never padded. Nor are negatives the query's own
document (the one with the query's id) and documents with the text of a positive. A query all of whose positives are
unknown to the source is left out; a run knows the documents of its corpus, or if that is not at hand those that it
lists. --by-rank 10:46-50 labels by rank alone, without judgements. A report says what each filter removed and how many
queries fell short.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import MinRel, Only, Queries, Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.mining import MiningFlags
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.formats.joins import Join
from drtools.formats.lines import shown
from drtools.outputs import work as output
from drtools.outputs.request import add_change
from drtools.search.mining import NO_DUPLICATES, SCORE_RULES
from drtools.search.sources import QUERIES_A_BLOCK
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.corpus_store import Store
    from drtools.search.avoided import Avoided

SOURCE, BM25 = "Source (one)", "BM25"
QUERIES_A_SAVE = QUERIES_A_BLOCK  # a source counts cut and empty queries by blocks; within one they would count twice


def main(
    file: FileOutput,
    queries: Queries,
    mining: MiningFlags,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    qrels: Annotated[
        str | None, Option(help="judgements: the queries to mine for and their positives"), Role.INPUT
    ] = None,
    by_rank: Annotated[str | None, Option(help="P:N1-N2, ranks 1 to P positive, N1 to N2 negative; no qrels")] = None,
    index: Annotated[
        str | None, Option(help="Lucene or FAISS index folder", rich_help_panel=SOURCE), Role.INPUT
    ] = None,
    vectors: Annotated[
        str | None, Option(help="vectors folder, searched exactly", rich_help_panel=SOURCE), Role.INPUT
    ] = None,
    run: Annotated[str | None, Option(help="any TREC run", rich_help_panel=SOURCE), Role.INPUT] = None,
    random: Annotated[bool, Option("--random", help="random documents of --corpus", rich_help_panel=SOURCE)] = False,
    corpus: Annotated[
        str | None,
        Option(
            help="corpus: for --random, and to find copies of a positive; default: the one that was indexed or encoded",
            rich_help_panel=SOURCE,
        ),
        Role.INPUT,
    ] = None,
    query_vectors: Annotated[
        str | None, Option(help="vectors folder of the queries, in place of encoding them"), Role.INPUT
    ] = None,
    min_rel: MinRel = 1,
    only: Only = None,
    k1: Annotated[float, Option(min=0, rich_help_panel=BM25)] = 0.9,
    b: Annotated[float, Option(min=0, max=1, rich_help_panel=BM25)] = 0.4,
) -> None:
    """Compose: a source of hits, the rules of mining, examples."""
    mining.check()
    check_source({"--index": index, "--vectors": vectors, "--run": run, "--random": random or None})
    check(mining, qrels, by_rank, run, random, corpus, encoder_flags.said)
    if random:  # which have no ranks
        mining = replace(mining, ranks=f"1-{sys.maxsize}")
    if qrels and not mining.keep_duplicates:
        add_change(file.request, NO_DUPLICATES)
    with output.file(file) as work:
        from drtools.search.avoided import Avoided, check_queries

        positives, texts = positives_of(qrels, queries, min_rel, only)
        avoided = Avoided(own=False)
        if random:
            assert corpus and positives is not None and qrels, "checked above"
            source, avoided = random_source(corpus, positives, mining, qrels)
        else:
            source = open_source(index, vectors, run, encoder_flags, compute, query_vectors, (k1, b))
            if run:
                check_queries(source, positives or texts, qrels or queries)
            if positives is not None and qrels is not None:
                avoided = what_to_avoid(source, positives, corpus, qrels, mining.keep_duplicates)
        asked = [(query_id, text) for query_id, text in texts.items() if positives is None or query_id in positives]
        counts = mine(source, asked, positives, mining, by_rank, avoided, work)
        report(counts, mining, by_rank, random)
        work.finish(kind="examples", counts=dict(counts))


def check_source(sources: dict[str, object]) -> None:
    """Raise InputError unless one source is named."""
    named = [name for name, value in sources.items() if value]
    if len(named) != 1:
        raise InputError(f"{' and '.join(named) or 'no source'} named; say one of {', '.join(sources)}")


def check(
    mining: MiningFlags,
    qrels: str | None,
    by_rank: str | None,
    run: str | None,
    random: bool,
    corpus: str | None,
    of_encoder: list[str],
) -> None:
    """Raise InputError for flags that do not go together."""
    if (qrels is None) == (by_rank is None):
        raise InputError("say either --qrels QRELS or --by-rank P:N1-N2")
    if random and (corpus is None or by_rank):
        raise InputError("--random draws from --corpus CORPUS, for the queries of --qrels")
    if random and mining.by_score:
        raise InputError(f"{' and '.join(mining.by_score)}: random documents have no score; leave it out")
    if random and mining.ranks != MiningFlags.ranks:
        raise InputError(f"--ranks {mining.ranks}: random documents have no rank; leave it out")
    if by_rank and mining.said:
        raise InputError(f"{' and '.join(mining.said)}: --by-rank {by_rank} says what is taken; leave it out")
    if (run or random) and of_encoder:
        raise InputError(f"{' and '.join(of_encoder)}: {'a run' if run else '--random'} needs no encoder; leave it out")
    if corpus and not random and (by_rank or (mining.keep_duplicates and not run)):
        raise InputError(
            f"--corpus: with {'--by-rank' if by_rank else '--keep-duplicates'} no text is looked for; leave it out"
        )


def positives_of(
    qrels: str | None, queries: str, min_rel: int, only: str | None = None
) -> tuple[dict[str, list[str]] | None, dict[str, str]]:
    """Return each query's relevant documents, and the texts of the queries that have any; without judgements of all."""
    from drtools.formats.text_sources import judged_queries
    from drtools.formats.trec import read_qrels

    if qrels is None:
        return None, judged_queries(queries, only)
    judged = read_qrels(qrels)
    texts = judged_queries(queries, qrels)
    if only:
        kept = read_qrels(only)
        found = Join(judged, qrels, kept)
        found.check(
            f"{only}: judges none of the queries that {qrels} judges; do the two belong together?",
            f"{found.missing:,} of the {found.asked:,} queries of {only} are not judged by {qrels}; left out",
        )
        texts = {query_id: text for query_id, text in texts.items() if query_id in kept}
    relevant = {
        query_id: [document for document, grade in judged[query_id].items() if grade >= min_rel] for query_id in texts
    }
    without = [query_id for query_id, documents in relevant.items() if not documents]
    reporting.notice(
        len(without),
        f"{counted(len(without), 'query has', 'queries have')} no document of grade {min_rel} or more; left out",
    )
    for query_id in without:
        del relevant[query_id], texts[query_id]
    if not texts:
        raise InputError(f"{qrels}: no query has a document of grade {min_rel} or more; lower --min-rel")
    return relevant, texts


def open_source(index, vectors, run, encoder_flags, compute, query_vectors, bm25: tuple[float, float]):
    """Open the source that was named."""
    from drtools.models.device import all_threads
    from drtools.search.other_sources import RunSource
    from drtools.search.sources import LuceneSource, index_kind, open_dense

    if run:
        return RunSource(run)
    if index and index_kind(index) == "lucene":
        if query_vectors or encoder_flags.said:
            raise InputError(
                f"{index}: a Lucene index, which no encoder searches; name a FAISS index or vectors, or leave "
                f"{' and '.join([*encoder_flags.said, *(['--query-vectors'] if query_vectors else [])])} out"
            )
        return LuceneSource(index, *bm25, threads=compute.threads or all_threads())
    return open_dense(vectors, index, encoder_flags, compute, query_vectors)


def random_source(corpus: str, positives: dict[str, list[str]], mining: MiningFlags, qrels: str):
    """Return a source of random documents, enough that what is no negative can be taken out, and what that is."""
    from drtools.formats.copies import copies_by_id
    from drtools.formats.corpus_store import open_store
    from drtools.search.avoided import Avoided, leave_out_unknown
    from drtools.search.other_sources import RandomSource

    store = open_store(corpus)
    unknown = leave_out_unknown(positives, store, corpus, qrels)
    copies = {} if mining.keep_duplicates else copies_by_id(store, list({*chain.from_iterable(positives.values())}))
    avoided = Avoided(copies, unknown, not mining.keep_duplicates)

    def taken(query_id: str) -> set[str]:
        others = avoided.of(query_id, positives[query_id])
        return {*positives[query_id], *(each for each in others if each != query_id or each in store)}

    return RandomSource(store, mining.seed, mining.negatives, taken), avoided


def what_to_avoid(source, positives: dict[str, list[str]], corpus: str | None, qrels: str, keep: bool) -> Avoided:
    """Return what is no negative; queries whose positives the source does not know are taken out of `positives`."""
    from drtools.cli.show import lineage
    from drtools.formats.corpus_store import open_store
    from drtools.search import avoided
    from drtools.search.other_sources import RunSource

    is_run = isinstance(source, RunSource)
    texts = corpus or lineage.source(Path(source.whose), lineage.CORPUS_FLAGS, lineage.SEARCHED_FLAGS)
    store = open_store(texts) if texts and (is_run or not keep) else None
    unknown: set[str] = set()
    foreign: set[str] = set()
    if not is_run:
        unknown = avoided.leave_out_unknown(positives, source.documents, source.whose, qrels)
    else:
        avoided.check_retrieved(source, positives, qrels)
        if store:
            foreign = avoided.unknown_to(store, source)
        else:
            unknown = avoided.leave_out_unlisted(source, positives, qrels)
    if store and (is_run or corpus):
        unknown |= avoided.leave_out_unknown(positives, store, shown(store.corpus), qrels)
    copies = {} if keep else copies_of_positives(positives, store, source.whose)
    return avoided.Avoided(copies, unknown, not keep, is_run and not store, foreign)


def copies_of_positives(positives: dict[str, list[str]], store: Store | None, source: str) -> dict[str, list[str]]:
    """Return the other documents with each positive's text.

    Found in the corpus, else by the vectors' digests of texts; where there are neither, that is noted.
    """
    from drtools.cli.show import lineage
    from drtools.formats.copies import copies_by_digest, copies_by_id

    wanted = list(dict.fromkeys(chain.from_iterable(positives.values())))
    if store:
        return copies_by_id(store, wanted)
    behind = lineage.source(Path(source), ("vectors",), lineage.SEARCHED_FLAGS)
    for folder in (Path(source), *([Path(behind)] if behind else [])):
        found = copies_by_digest(folder, wanted)
        if found is not None:
            words = f"{folder}: copies of a positive are found by their digests, to the letter; "
            reporting.notice(1, f"{words}pass --corpus CORPUS to find others")
            return found
    reporting.notice(
        1,
        f"the texts behind {source} are not at hand, so that documents with a positive's text can be negatives; pass "
        "--corpus CORPUS, or --keep-duplicates",
    )
    return {}


def mine(source, queries, positives, mining, by_rank, avoided: Avoided, work) -> Counter:
    """Write one example a query, in order; what is written counts as done every so many queries."""
    from drtools.cli.flags.mining import parse_by_rank
    from drtools.formats.examples import Example
    from drtools.search.mining import choose_negatives, label_by_rank, parse_ranks

    labels = parse_by_rank(by_rank) if by_rank else None
    depth = labels[1][1] if labels else parse_ranks(mining.ranks)[1]
    counts, done = Counter(work.state.get("counts", {})), work.state.get("done", 0)
    with reporting.progress("mining", len(queries), "queries", done) as progress:
        for found in source.search(queries[done:], depth, positives or {}):
            if labels:
                example = label_by_rank(found.query_id, found.hits, *labels)
                counts["too few hits"] += example is None
            else:
                known = [score for score in found.asked.values() if score is not None]
                counts["positives without a score"] += len(found.asked) - len(known)
                relevant = positives[found.query_id]
                removed: Counter[str] = Counter()
                negatives = choose_negatives(
                    found.query_id,
                    found.hits,
                    set(relevant),
                    min(known, default=None),
                    mining,
                    removed,
                    avoided.of(found.query_id, relevant, found.hits),
                )
                counts.update({FLAGS_OF_RULES.get(rule, rule): count for rule, count in removed.items()})
                example = Example(
                    found.query_id,
                    relevant,
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


FLAGS_OF_RULES = {rule: f"--{rule.replace('_', '-')}" for rule in SCORE_RULES}  # as counts are written
RELAX = {
    "--max-score": "raise it",
    "--min-score": "lower it",
    "--absolute-margin": "lower it",
    "--relative-margin": "lower it",
}


def report(counts: Counter, mining: MiningFlags, by_rank: str | None, random: bool) -> None:
    """Say what was mined, what each filter removed, and what to relax where queries fell short."""
    from drtools.search.avoided import REASONS

    reporting.say(
        f"{counts['examples']:,} examples with {counts['negatives']:,} negatives, out of {counts['queries']:,} queries"
    )
    for name, words in (("truncated", "cut"), ("empty", "empty")):
        reporting.notice(counts[name], f"{counts[name]:,} of {counts['queries']:,} queries were {words}")
    if by_rank:
        reporting.notice(
            counts["too few hits"],
            f"{counted(counts['too few hits'], 'query has', 'queries have')} too few hits for --by-rank {by_rank}; "
            "left out",
        )
        return
    removed = [f"{counts[why]:,} were {why}" for why in ("positives", *REASONS) if counts[why]]
    removed += [f"{name} removed {counts[name]:,}" for name in RELAX if counts[name]]
    if removed:
        reporting.say(
            f"of the {'documents drawn' if random else f'hits at raw ranks {mining.ranks}'}: {'; '.join(removed)}"
        )
    widen = "the corpus has too few documents" if random else f"--ranks {mining.ranks}: widen it"
    advice = [f"{name}: {how}" for name, how in RELAX.items() if counts[name]] or [widen]
    reporting.notice(
        counts["short"],
        f"{counted(counts['short'], 'query has', 'queries have')} fewer than {mining.negatives} negatives, "
        f"{counted(counts['none'], 'has', 'have')} none ({'; '.join(advice)}; or lower --negatives)",
    )
    if mining.needs_positive_scores:
        reporting.notice(
            counts["positives without a score"],
            f"{counts['positives without a score']:,} positives have no score in this source; margins compare with the "
            "others",
        )
