r"""Mine hard negatives, and write training examples.

    drtools mine-negatives --queries queries.jsonl.gz --qrels qrels/train.tsv --index bm25 \
        -o examples.jsonl
    drtools mine-negatives --queries queries.jsonl.gz --qrels qrels/train.tsv --vectors vectors \
        --ranks 1-100 -o dense-examples.jsonl
    drtools mine-negatives --queries sentences.jsonl --index bm25 --by-rank 10:46-50 \
        -o lexical.jsonl

Hits come from one source: --index (Lucene or FAISS), --vectors, --run or --random. All positives of a query go into its
example. These documents are never negatives: the positives, the document with the query's own id, and documents with
the same text as a positive. A list with too few negatives is not padded.

A query is left out if the source has none of its positives. A run has the documents of its corpus, or those that it
lists if the corpus is not available. --by-rank 10:46-50 labels documents by rank only, without judgements. A report
says what each filter removed, and how many queries have too few negatives.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import DryRun, MinRel, Only, PartFlag, Queries, Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.mining import MiningFlags, parse_by_rank
from drtools.cli.flags.outputs import FileOutput
from drtools.cli.show import lineage
from drtools.errors import InputError
from drtools.outputs.opening import open_file
from drtools.outputs.request import add_change
from drtools.search.avoided import REASONS, Avoided, check_queries
from drtools.search.mining import NO_DUPLICATES, SCORE_RULES
from drtools.search.other_sources import RandomSource, RunSource
from drtools.search.specs import SourceSpec
from drtools.units import counted

SOURCE, BM25 = "Source (one)", "BM25"
FLAGS_OF_RULES = {rule: f"--{rule.replace('_', '-')}" for rule in SCORE_RULES}  # as counts are written
RELAX = {
    "--max-score": "raise it",
    "--min-score": "lower it",
    "--absolute-margin": "lower it",
    "--relative-margin": "lower it",
}


@dataclass(frozen=True)
class MineFlags:
    """Where hits come from, and what judges them."""

    qrels: Annotated[str | None, Option(help="qrels: the queries to mine for and their positives"), Role.INPUT] = None
    by_rank: Annotated[
        str | None,
        Option(help="P:N1-N2: instead of --qrels, ranks 1 to P are positive and ranks N1 to N2 negative"),
    ] = None
    index: Annotated[str | None, Option(help="Lucene or FAISS index folder", rich_help_panel=SOURCE), Role.INPUT] = None
    vectors: Annotated[
        str | None, Option(help="vectors folder, searched exactly", rich_help_panel=SOURCE), Role.INPUT
    ] = None
    run: Annotated[str | None, Option(help="any TREC run", rich_help_panel=SOURCE), Role.INPUT] = None
    random: Annotated[bool, Option("--random", help="random documents of --corpus", rich_help_panel=SOURCE)] = False
    corpus: Annotated[
        str | None,
        Option(
            help="corpus for --random, and for finding copies of a positive; default: the one that was indexed or "
            "encoded",
            rich_help_panel=SOURCE,
        ),
        Role.INPUT,
    ] = None
    query_vectors: Annotated[
        str | None, Option(help="vectors folder of the queries, instead of encoding them"), Role.INPUT
    ] = None
    min_rel: MinRel = 1
    only: Only = None
    k1: Annotated[float, Option(min=0, help="BM25's k1", rich_help_panel=BM25)] = 0.9
    b: Annotated[float, Option(min=0, max=1, help="BM25's b", rich_help_panel=BM25)] = 0.4
    part: PartFlag = None

    @property
    def source(self) -> SourceSpec | str:
        """What is searched, or the run."""
        return self.run or SourceSpec(self.index, self.vectors, query_vectors=self.query_vectors, k1=self.k1, b=self.b)


def main(
    file: FileOutput,
    queries: Queries,
    mining: MiningFlags,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    flags: MineFlags,
    dry_run: DryRun = False,
) -> None:
    """Mine negatives from a source of hits, and write examples."""
    mining.check()
    check_source(flags)
    check(flags, mining, encoder_flags.flags_given)
    labels = parse_by_rank(flags.by_rank) if flags.by_rank else None
    rules = replace(mining, ranks=f"1-{sys.maxsize}") if flags.random else mining  # random documents have no ranks
    if flags.qrels and not mining.keep_duplicates:
        add_change(file.request, NO_DUPLICATES)
    with open_file(file, dry_run) as work:
        from drtools.search.mining_run import (
            Searched,
            mine,
            open_mined_source,
            part_of_queries,
            positives_of,
            random_source,
            say_mining_costs,
            what_to_avoid,
        )

        positives, texts = positives_of(flags.qrels, queries, flags.min_rel, flags.only)
        source: Searched | RandomSource
        avoided = Avoided(own=False)
        if flags.random:
            assert flags.corpus and positives is not None and flags.qrels, "checked above"
            source, avoided = random_source(flags.corpus, positives, rules, flags.qrels)
        else:
            source = opened = open_mined_source(flags.source, encoder_flags, compute)
            if isinstance(opened, RunSource):
                check_queries(opened, positives or texts, flags.qrels or queries)
            if positives is not None and flags.qrels is not None:
                keep = mining.keep_duplicates
                avoided = what_to_avoid(opened, positives, flags.qrels, keep, flags.corpus, input_behind)
        asked = [(query_id, text) for query_id, text in texts.items() if positives is None or query_id in positives]
        part = part_of_queries(flags.part, source, len(asked))
        asked = asked[part["first"] : part["last"]] if part else asked

        def take(some: Sequence[tuple[str, str]]) -> Counter[str]:
            return mine(work, source, some, positives, rules, labels, avoided, FLAGS_OF_RULES)

        say_mining_costs(work, source, asked, take)
        counts = take(asked)
        report(counts, mining, flags.by_rank, flags.random)
        work.finish(kind="examples", counts=dict(counts), **({"part": part} if part else {}))


def input_behind(artefact: str, what: Literal["corpus", "vectors"]) -> str | None:
    """Return the corpus or the vectors that an artefact was made from, according to the manifests."""
    wanted = lineage.CORPUS_FLAGS if what == "corpus" else ("vectors",)
    return lineage.source(Path(artefact), wanted, lineage.SEARCHED_FLAGS)


def check_source(flags: MineFlags) -> None:
    """Raise InputError unless exactly one source is given."""
    sources = {"--index": flags.index, "--vectors": flags.vectors, "--run": flags.run, "--random": flags.random}
    named = [name for name, value in sources.items() if value]
    if len(named) != 1:
        raise InputError(
            f"{' and '.join(named)} were given" if named else "no source was given",
            remedy=f"pass one of {', '.join(sources)}",
        )


def check(flags: MineFlags, mining: MiningFlags, of_encoder: list[str]) -> None:
    """Raise InputError for flags that do not go together."""
    if (flags.qrels is None) == (flags.by_rank is None):
        raise InputError("pass either --qrels QRELS or --by-rank P:N1-N2")
    if flags.random and (flags.corpus is None or flags.by_rank):
        raise InputError("--random needs --corpus CORPUS and --qrels QRELS")
    if flags.random and mining.by_score:
        raise InputError("random documents have no score", where=" and ".join(mining.by_score), remedy="leave it out")
    if flags.random and mining.ranks != MiningFlags.ranks:
        raise InputError("random documents have no rank", where=f"--ranks {mining.ranks}", remedy="leave it out")
    if flags.by_rank and mining.flags_given:
        raise InputError(
            f"cannot be used with --by-rank {flags.by_rank}, which sets the negatives",
            where=" and ".join(mining.flags_given),
            remedy="leave it out",
        )
    if (flags.run or flags.random) and of_encoder:
        raise InputError(
            f"{('a run' if flags.run else '--random')} needs no encoder",
            where=" and ".join(of_encoder),
            remedy="leave it out",
        )
    if flags.corpus and not flags.random and (flags.by_rank or (mining.keep_duplicates and not flags.run)):
        raise InputError(
            f"not used with {('--by-rank' if flags.by_rank else '--keep-duplicates')}",
            where="--corpus",
            remedy="leave it out",
        )


def report(counts: Counter[str], mining: MiningFlags, by_rank: str | None, random: bool) -> None:
    """Report what was mined, what each filter removed, and what to relax if queries have too few negatives."""
    reporting.say(
        f"{counted(counts['examples'], 'example')} with {counted(counts['negatives'], 'negative')}, out of "
        f"{counted(counts['queries'], 'query', 'queries')}"
    )
    queries = counted(counts["queries"], "query", "queries")
    for name, words in (("truncated", "cut"), ("empty", "empty")):
        reporting.notice(
            counts[name], f"{counts[name]:,} of {queries} {'was' if counts[name] == 1 else 'were'} {words}"
        )
    if by_rank:
        reporting.notice(
            counts["too few hits"],
            f"{counted(counts['too few hits'], 'query has', 'queries have')} too few hits for --by-rank {by_rank}; "
            "left out",
        )
        return
    removed = [f"{why} ({counts[why]:,})" for why in ("positives", *REASONS) if counts[why]]
    removed += [f"{counts[name]:,} by {name}" for name in RELAX if counts[name]]
    if removed:
        reporting.say(
            f"left out of the {'random documents' if random else f'hits at ranks {mining.ranks}'}: {', '.join(removed)}"
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
            f"{counted(counts['positives without a score'], 'positive has', 'positives have')} no score in this "
            "source; margins compare with the others",
        )
