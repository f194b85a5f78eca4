"""Score documents, dark items (ADAM), pieces (FGD) and runs with a teacher."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.corpus_store import open_store
from drtools.formats.examples import Example, read_examples
from drtools.formats.lines import shown
from drtools.formats.query_store import open_queries
from drtools.formats.stored_run import open_run
from drtools.formats.trec import rank, write_run
from drtools.methods.run_scores import put_scores
from drtools.methods.scoring_settings import ScoringSettings
from drtools.models.specs import ReadingSpec
from drtools.outputs.parts import Part
from drtools.outputs.states import State
from drtools.teachers.windows import (
    Asked,
    Contributor,
    Lacking,
    Scored,
    ScoredTexts,
    Window,
    check_texts,
    documents_in,
    example_windows,
    run_windows,
    with_scores,
)
from drtools.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drtools.costs import Forecast
    from drtools.methods.fgd.piece_scores import Cutter
    from drtools.models.specs import ComputeSpec, PieceSizes
    from drtools.outputs.work import Work
    from drtools.teachers.scoring import Teacher


SAMPLED_PAIRS = 96  # [ours] three batches of a processor at 128 tokens


@dataclass(kw_only=True)
class ScoringState(State):
    """The state of a stopped scoring: its counts, and the first ids without a text."""

    counts: dict[str, int]
    first: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def begun(cls, work: Work) -> ScoringState:
        """Return the saved state of some work, or its initial state."""
        return cls.of(work) or cls(counts={})


def score(
    work: Work,
    settings: ScoringSettings,
    *,
    sizes: PieceSizes,
    compute: ComputeSpec,
    reading: ReadingSpec = ReadingSpec(),
) -> None:
    """Score examples or a run window by window, using the cache, and write them in their order."""
    if settings.scores is not None:
        reading.refuse_without_teacher()
        if work.dry_run:
            raise InputError("the scores of a run are read, which costs nothing", where=param("dry_run"))
        return put_scores(work, settings.examples or settings.given or "", settings.scores)
    assert settings.queries is not None and settings.corpus is not None and settings.teacher, "as it was checked"
    from drtools.models.compute import settle
    from drtools.teachers.scoring import ODDITIES, WINDOW_PAIRS, load_teacher

    cutter = open_cutter(settings, sizes)
    texts = ScoredTexts(
        open_queries(settings.queries), open_store(settings.corpus), settings.title_separator, shown(settings.queries)
    )
    lacking = Lacking(texts, ScoringState.begun(work).first)
    computing = settle(compute, settings.batch_tokens, several=True)
    window = settings.window or WINDOW_PAIRS * len(computing.devices)
    part, rows, total = rows_to_score(settings)
    teacher = load_teacher(
        settings.teacher,
        computing,
        max_query_tokens=settings.max_query_tokens,
        max_document_tokens=settings.max_document_tokens,
        trust_remote_code=settings.trust_remote_code,
        reading=reading,
    )
    examples = settings.examples or settings.given
    forecast = say_scoring_costs(work, settings, rows, teacher, texts, cutter)
    if examples:
        documents = not settings.only_pieces
        counts = score_examples(teacher, examples, rows, texts, cutter, documents, lacking, window, work, forecast)
    else:
        assert settings.run is not None, "one of the two is given"
        counts = rank_run(
            teacher, settings.run, rows, settings.depth, texts, lacking, window, settings.tag, work, forecast
        )
    counts.update({name: count for name, count in teacher.counts.items() if name not in ODDITIES})
    report(counts, lacking)
    work.finish(
        kind="examples" if examples else "run",
        scored_by=teacher.name,
        max_query_tokens=teacher.max_query_tokens,
        max_document_tokens=teacher.max_document_tokens,
        precision=computing.precision,
        counts=dict(counts),
        **({"part": part.record(rows, total)} if part else {}),
    )


def rows_to_score(settings: ScoringSettings) -> tuple[Part | None, range, int]:
    """Return the part, its rows among the examples (or the queries of a run), and the number of all."""
    path = settings.examples or settings.given
    if not settings.part:
        return None, range(sys.maxsize), sys.maxsize
    part = Part.parse(settings.part)
    total = sum(1 for _ in read_examples(path)) if path else len(open_run(settings.run or ""))
    return part, part.rows(total, 1, "examples" if path else "queries"), total


def say_scoring_costs(
    work: Work, settings: ScoringSettings, rows: range, teacher: Teacher, texts: ScoredTexts, cutter: Cutter | None
) -> Forecast:
    """Report what scoring costs, from the first pairs; in a dry run score these without the cache, and end.

    Returns the forecast, to which the tokens of computed scores are noted.
    """
    from drtools.methods.adam.dark import dark_asked
    from drtools.teachers.costs import say_costs_of_pairs

    path = settings.examples or settings.given
    if path:
        contributors: list[Contributor] = [partial(dark_asked, teacher=teacher), *([cutter.asked] if cutter else [])]
        examples = islice(read_examples(path), rows.start, rows.stop)
        numbers = [len(each.positives) + len(each.negatives) + len(each.dark or ()) for each in examples]
        examples = islice(read_examples(path), rows.start, rows.stop)
        windows = example_windows(examples, texts, contributors, SAMPLED_PAIRS, not settings.only_pieces)
        pairs, limits, things = next(windows, ([], [], []))
        done = sum(numbers[: len(things)])
        size = Path(path).stat().st_size if Path(path).is_file() else None
    else:
        assert settings.run is not None, "one of the two is given"
        run = open_run(settings.run)
        numbers = [min(settings.depth, len(hits)) for hits in islice(run.values(), rows.start, rows.stop)]
        some = islice(run.items(), rows.start, rows.stop)
        pairs, limits, found = next(run_windows(some, settings.depth, texts, SAMPLED_PAIRS), ([], [], []))
        done, size = sum(numbers[: len(found)]), None
    total = round(len(pairs) * sum(numbers) / done) if done else 0  # pieces are known of the first examples alone
    return say_costs_of_pairs(teacher, pairs, limits, total, size, work.dry_run)


def open_cutter(settings: ScoringSettings, sizes: PieceSizes) -> Cutter | None:
    """Return an object that cuts documents into pieces, if pieces are scored."""
    from drtools.methods.fgd.piece_scores import load_cutter

    if not settings.pieces:
        return None
    return load_cutter(
        settings.pieces,
        settings.pieces_max_document_tokens,
        sizes,
        settings.pieces_document_prompt,
        settings.trust_remote_code,
    )


def score_examples(
    teacher: Teacher,
    path: str,
    rows: range,
    texts: ScoredTexts,
    cutter: Cutter | None,
    documents: bool,
    lacking: Lacking,
    window: int,
    work: Work,
    forecast: Forecast,
) -> Counter[str]:
    """Write every example of `rows` with its scores, in order; without `documents`, those of its pieces alone."""
    from drtools.methods.adam.dark import dark_asked
    from drtools.methods.fgd.piece_scores import drop_pieces

    check_texts(((each.query_id, documents_in(each)) for each in read_examples(path)), texts, path)

    def write(example_and_asked: tuple[Example, list[Asked]], scores: Iterator[float], counts: Counter[str]) -> None:
        example, asked = example_and_asked
        with_text = sum(item.text is not None for item in asked)
        known = example.query_id in texts.queries
        if len(asked) > with_text or not known:
            lacking.look_up(example.query_id, documents_in(example))
        dropped = cutter is None and drop_pieces(example, teacher.name)
        counts.update(
            {
                "examples": 1,
                "lacking queries": not known,
                "lacking documents": (len(asked) - with_text) * known,
                "dropped": dropped,
                "cut reinforced": sum(item.text is not None and item.cut for item in asked),
            }
        )
        assert work.stream is not None, "a file is written"
        work.stream.write(with_scores(example, asked, islice(scores, with_text), teacher.name, documents).line())

    contributors: list[Contributor] = [partial(dark_asked, teacher=teacher)]
    if cutter:
        contributors.append(cutter.asked)
    done = ScoringState.begun(work).counts.get("examples", 0)
    examples = islice(read_examples(path), rows.start + done, rows.stop)
    return write_windows(
        teacher, example_windows(examples, texts, contributors, window, documents), write, lacking, work, forecast
    )


def rank_run(
    teacher: Teacher,
    path: str,
    rows: range,
    depth: int,
    texts: ScoredTexts,
    lacking: Lacking,
    window: int,
    tag: str,
    work: Work,
    forecast: Forecast,
) -> Counter[str]:
    """Write the queries of `rows` of a run in the teacher's order, query by query."""

    def write(ranked: tuple[str, list[str], int], scores: Iterator[float], counts: Counter[str]) -> None:
        query_id, documents, without = ranked
        counts.update({"queries": 1, "lacking queries": query_id not in texts.queries, "lacking documents": without})
        if without or query_id not in texts.queries:
            lacking.look_up(query_id, list(run[query_id])[:depth])
        assert work.stream is not None, "a file is written"
        write_run(
            work.stream, [(query_id, rank(dict(zip(documents, islice(scores, len(documents)), strict=True))))], tag
        )

    run = open_run(path)
    check_texts(((query_id, list(hits)[:depth]) for query_id, hits in run.items()), texts, path)
    done = ScoringState.begun(work).counts.get("queries", 0)
    hits = islice(run.items(), rows.start + done, rows.stop)
    return write_windows(teacher, run_windows(hits, depth, texts, window), write, lacking, work, forecast)


def write_windows(
    teacher: Teacher,
    windows: Iterator[Window[Scored]],
    write: Callable[[Scored, Iterator[float], Counter[str]], None],
    lacking: Lacking,
    work: Work,
    forecast: Forecast,
) -> Counter[str]:
    """Score window by window. The state is saved after each."""
    from drtools.teachers.scoring import ODDITIES

    before = Counter[str](ScoringState.begun(work).counts)
    counts = Counter(before)
    with reporting.progress("scoring", None, "pairs") as progress:

        def on_batch(count: int) -> None:
            progress.advance(count)
            forecast.note(teacher.counts["tokens"])

        for things, scores in teacher.stream(windows, on_batch):
            values = iter(scores.tolist())
            for thing in things:
                write(thing, values, counts)
            counts["pairs"] += len(scores)
            odd = {name: before[name] + teacher.counts[name] for name in ODDITIES}
            counts |= Counter({name: count for name, count in odd.items() if count})
            ScoringState(counts=dict(counts), first=lacking.first).save(work)
    return counts


def report(counts: Counter[str], lacking: Lacking) -> None:
    """Report what was scored, and anything unusual."""
    from drtools.teachers.scoring import note_cuts

    reporting.say(
        f"{counted(counts['pairs'], 'pair')}; {counted(counts['computed'], 'score was', 'scores were')} "
        "computed now, the others were in the cache"
    )
    pieces = f"pieces that another teacher scored; left out, use {param('pieces')} MODEL to score them again"
    cut = (
        "longer than twice a document, or than the teacher can read with their query, and lost the end of one or both "
        "halves"
    )
    for name, one, many in (
        (
            "lacking queries",
            "query has no text; its documents have no score",
            "queries have no text; their documents have no score",
        ),
        (
            "lacking documents",
            "document is not in the corpus; it has no score",
            "documents are not in the corpus; they have no score",
        ),
        ("dropped", f"example had {pieces}", f"examples had {pieces}"),
        ("cut reinforced", f"reinforced negative was {cut}", f"reinforced negatives were {cut}"),
    ):
        pair = f" {lacking.joins[name].pair()}" if name in lacking.joins else ""
        reporting.notice(counts[name], f"{counted(counts[name], one, many)}{pair}")
    note_cuts(counts)
