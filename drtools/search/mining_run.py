"""Mining of hard negatives, query by query: judgements and a source of hits become training examples."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drtools import reporting
from drtools.costs import Costs, Forecast, peak_bytes, say_costs
from drtools.errors import DryRunDone, InputError, param
from drtools.formats.copies import copies_by_digest, copies_by_id
from drtools.formats.corpus_store import open_store
from drtools.formats.examples import Example
from drtools.formats.joins import Join
from drtools.formats.lines import shown
from drtools.formats.text_sources import judged_queries
from drtools.formats.trec import read_qrels
from drtools.models.device import all_threads
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.outputs.parts import Part, PartRecord
from drtools.outputs.states import State
from drtools.search import avoided as avoiding
from drtools.search.avoided import Avoided
from drtools.search.mining import MiningRules, choose_negatives, label_by_rank, parse_ranks
from drtools.search.other_sources import RandomHits, RandomSource, RunSource
from drtools.search.sources import QUERIES_A_BLOCK, DenseSource, Found, LuceneSource, index_kind, open_dense
from drtools.search.specs import SourceSpec
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.outputs.work import Work

SAMPLED_QUERIES = (32, 64, 256)  # in the batches of a dry run, of which the last tells the rate: Java warms up
Queries = Sequence[tuple[str, str]]
QUERIES_A_SAVE = QUERIES_A_BLOCK  # sources count cut and empty queries by block; saving within one would count twice
Searched = LuceneSource | DenseSource | RunSource
InputBehind = Callable[[str, Literal["corpus", "vectors"]], str | None]


@dataclass(kw_only=True)
class MiningState(State):
    """The state of a stopped mining: the number of finished queries, and their counts."""

    done: int
    counts: dict[str, int]


def nothing_behind(artefact: str, what: Literal["corpus", "vectors"]) -> None:
    """Return None: the inputs of artefacts are not known."""
    return None


def positives_of(
    qrels: str | None, queries: str, min_rel: int = 1, only: str | None = None
) -> tuple[dict[str, list[str]] | None, dict[str, str]]:
    """Return each query's relevant documents, and the texts of these queries; without qrels the texts of all."""
    if qrels is None:
        return None, judged_queries(queries, only)
    judged = read_qrels(qrels)
    texts = judged_queries(queries, qrels)
    if only:
        kept = read_qrels(only)
        found = Join(judged, qrels, kept)
        found.check(
            f"{only}: judges none of the queries that {qrels} judges; do the two belong together?",
            f"{found.missing:,} of the {found.asked:,} queries of {only} are not judged by {qrels} and are left out",
        )
        texts = {query_id: text for query_id, text in texts.items() if query_id in kept}
    relevant = {
        query_id: [document for document, grade in judged[query_id].items() if grade >= min_rel] for query_id in texts
    }
    without = [query_id for query_id, documents in relevant.items() if not documents]
    reporting.notice(
        len(without),
        f"{counted(len(without), 'query has', 'queries have')} no document of grade {min_rel} or more and "
        f"{'is' if len(without) == 1 else 'are'} left out",
    )
    for query_id in without:
        del relevant[query_id], texts[query_id]
    if not texts:
        raise InputError(
            f"no query has a document of grade {min_rel} or more", where=qrels, remedy=f"lower {param('min_rel')}"
        )
    return relevant, texts


def open_mined_source(
    spec: SourceSpec | str, encoder: EncoderSpec = EncoderSpec(), compute: ComputeSpec = ComputeSpec()
) -> Searched:
    """Open an index, vectors, or a run (given by its path)."""
    if isinstance(spec, str):
        return RunSource(spec)
    if spec.index and index_kind(spec.index) == "lucene":
        if spec.query_vectors or encoder.given:
            given = [*encoder.given, *(["query_vectors"] if spec.query_vectors else [])]
            raise InputError(
                "a Lucene index, which is searched without an encoder",
                where=spec.index,
                remedy=f"name a FAISS index or vectors, or leave {' and '.join(map(param, given))} out",
            )
        return LuceneSource(spec.index, spec.k1, spec.b, threads=compute.threads or all_threads())
    return open_dense(spec.vectors, spec.index, encoder, compute, spec.query_vectors)


def random_source(
    corpus: str, positives: dict[str, list[str]], rules: MiningRules, qrels: str
) -> tuple[RandomSource, Avoided]:
    """Return a source of random documents, and the documents to leave out, for which the source draws more."""
    store = open_store(corpus)
    unknown = avoiding.leave_out_unknown(positives, store, corpus, qrels)
    copies = {} if rules.keep_duplicates else copies_by_id(store, list({*chain.from_iterable(positives.values())}))
    avoided = Avoided(copies, unknown, not rules.keep_duplicates)

    def taken(query_id: str) -> set[str]:
        others = avoided.of(query_id, positives[query_id])
        return {*positives[query_id], *(each for each in others if each != query_id or each in store)}

    return RandomSource(store, rules.seed, rules.negatives, taken), avoided


def what_to_avoid(
    source: Searched,
    positives: dict[str, list[str]],
    qrels: str,
    keep_duplicates: bool = False,
    corpus: str | None = None,
    input_behind: InputBehind = nothing_behind,
) -> Avoided:
    """Return the documents to leave out; remove queries with only unknown positives from `positives`.

    The default corpus is the one from which the source was made, as `input_behind` finds it.
    """
    is_run = isinstance(source, RunSource)
    texts = corpus or input_behind(source.whose, "corpus")
    store = open_store(texts) if texts and (is_run or not keep_duplicates) else None
    unknown: set[str] = set()
    foreign: set[str] = set()
    if not isinstance(source, RunSource):
        unknown = avoiding.leave_out_unknown(positives, source.documents, source.whose, qrels)
    else:
        avoiding.check_retrieved(source, positives, qrels)
        if store:
            foreign = avoiding.unknown_to(store, source)
        else:
            unknown = avoiding.leave_out_unlisted(source, positives, qrels)
    if store and (is_run or corpus):
        unknown |= avoiding.leave_out_unknown(positives, store, shown(store.corpus), qrels)
    copies = {} if keep_duplicates else copies_of_positives(positives, store, source.whose, input_behind)
    return Avoided(copies, unknown, not keep_duplicates, is_run and not store, foreign)


def copies_of_positives(
    positives: dict[str, list[str]], store: CorpusStore | None, source: str, input_behind: InputBehind = nothing_behind
) -> dict[str, list[str]]:
    """Return the other documents with each positive's text.

    They are found in the corpus, or else by the digests of texts in the vectors folder. A note is printed if neither is
    available.
    """
    wanted = list(dict.fromkeys(chain.from_iterable(positives.values())))
    if store:
        return copies_by_id(store, wanted)
    behind = input_behind(source, "vectors")
    for folder in (Path(source), *([Path(behind)] if behind else [])):
        found = copies_by_digest(folder, wanted)
        if found is not None:
            words = f"{folder}: copies of a positive are found by digests, so only if every character is equal; "
            reporting.notice(1, f"{words}pass {param('corpus')} CORPUS to find others")
            return found
    reporting.notice(
        1,
        f"the texts of {source} are not available, so that documents with the same text as a positive can become "
        f"negatives; pass {param('corpus')} CORPUS, or {param('keep_duplicates')}",
    )
    return {}


def part_of_queries(text: str | None, source: Searched | RandomSource, count: int) -> PartRecord | None:
    """Return the place of a part `I/N` among `count` queries, None without one.

    The bits of a score may depend on the other queries of its block, so parts of a dense source are whole blocks.
    """
    if text is None:
        return None
    part = Part.parse(text)
    rows = part.rows(count, QUERIES_A_BLOCK if isinstance(source, DenseSource) else 1, "queries")
    return part.record(rows, count)


def mine(
    work: Work,
    source: Searched | RandomSource,
    queries: Sequence[tuple[str, str]],
    positives: dict[str, list[str]] | None,
    rules: MiningRules,
    labels: tuple[int, tuple[int, int]] | None = None,
    avoided: Avoided | None = None,
    names: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Write one example for each query, in order; progress is saved at fixed numbers of queries.

    With `labels` (P, (N1, N2)) documents are labelled by rank only, without positives. Returns counts, in which `names`
    gives the names of the rules.
    """
    assert work.stream is not None, "examples are a file"
    depth = labels[1][1] if labels else parse_ranks(rules.ranks)[1]
    state = MiningState.of(work) or MiningState(done=0, counts={})
    counts, done = Counter(state.counts), state.done
    written, forecast = 0, None if work.dry_run else Forecast(len(queries) - done)
    with reporting.progress("mining", len(queries), "queries", done) as progress:
        for found in source.search(queries[done:], depth, positives or {}):
            if labels:
                assert isinstance(found, Found), "labels are by rank, and random documents have no rank"
                example = label_by_rank(found.query_id, found.hits, *labels)
                counts["too few hits"] += example is None
            else:
                assert positives is not None, "labels or positives"
                example = _example(
                    found, positives[found.query_id], rules, avoided or Avoided(own=False), counts, names or {}
                )
            counts["queries"] += 1
            if example:
                counts["examples"] += 1
                counts["negatives"] += len(example.negatives)
                written += work.stream.write(example.line())
            progress.advance(1)
            if forecast:
                forecast.note(progress.done - done, written)
            if counts["queries"] % QUERIES_A_SAVE == 0:
                state = MiningState(done=done + progress.done - progress.begin.done, counts=dict(counts + source.noted))
                state.save(work)
    return counts + source.noted


def say_mining_costs(
    work: Work, source: Searched | RandomSource, queries: Sequence[tuple[str, str]], take: Callable[[Queries], object]
) -> None:
    """Report what mining costs; in a dry run, `take` mines three batches of queries first, and DryRunDone is raised."""
    say_costs(Costs(f"mining for {counted(len(queries), 'query', 'queries')}"))
    if not work.dry_run:
        return
    assert work.stream is not None, "examples are a file"
    mined, seconds, each = 0, 0.0, 0.0
    for count in SAMPLED_QUERIES:
        part = queries[mined : mined + count]
        if part:
            started = time.monotonic()
            take(part)
            taken = time.monotonic() - started
            mined, seconds, each = mined + len(part), seconds + taken, taken / len(part)
    disk = work.stream.tell() / max(1, mined) * len(queries)
    seconds += each * (len(queries) - mined)
    say_costs(Costs("", f"from {counted(mined, 'query', 'queries')}", peak_bytes(), disk, None, seconds))
    raise DryRunDone


def _example(
    found: Found | RandomHits,
    positives: list[str],
    rules: MiningRules,
    avoided: Avoided,
    counts: Counter[str],
    names: Mapping[str, str],
) -> Example:
    """Return the example of one query, and count what the rules removed from its hits."""
    known = [score for score in found.asked.values() if score is not None]
    removed: Counter[str] = Counter()
    negatives = choose_negatives(
        found.query_id,
        found.hits,
        set(positives),
        min(known, default=None),
        rules,
        removed,
        avoided.of(found.query_id, positives, found.hits),
    )
    counts["positives without a score"] += len(found.asked) - len(known)
    counts.update({names.get(rule, rule): count for rule, count in removed.items()})
    counts["short"] += len(negatives) < rules.negatives
    counts["none"] += not negatives
    return Example(found.query_id, positives, list(negatives), list(found.asked.values()), list(negatives.values()))
