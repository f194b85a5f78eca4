"""Examples with dark items (Tao et al., ADAM, 3.1): reinforced negatives and noisy positives, for a teacher to score.

Draws depend only on the seed and the query.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.formats.corpora import document_text
from drtools.formats.corpus_store import CorpusStore, open_store
from drtools.formats.dark_items import Dark, Noisy, Reinforced, documents_of, parse_ratios
from drtools.formats.examples import Example, read_examples
from drtools.formats.joins import Join
from drtools.formats.lines import shown
from drtools.outputs.states import State
from drtools.randomness import generator
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.methods.adam.settings import DarkSettings
    from drtools.outputs.work import Work

EXAMPLES_A_SAVE = 1024
Writer = Callable[[Example, "Counter[str]"], None]  # adds texts to an example with dark items


@dataclass(kw_only=True)
class DarkState(State):
    """The state of a stopped making of dark examples: the number of finished examples, and their counts."""

    done: int
    counts: dict[str, int]


def make_dark_examples(work: Work, examples: str, settings: DarkSettings) -> None:
    """Write examples with dark items, and report anything unusual."""
    found = in_corpus(settings.corpus, examples) if settings.corpus else None
    counts = darken(examples, settings, writer(found, settings.title_separator), work)
    reporting.say(
        f"{counted(counts['examples'], 'example')} with {counted(counts['negatives'], 'negative')} and "
        f"{counted(counts['dark'], 'dark item')}"
    )
    if counts["several"]:
        reporting.say(f"{counted(counts['several'], 'query has', 'queries have')} several positives; one was drawn")
    reporting.notice(
        counts["short"],
        f"{counted(counts['short'], 'query has', 'queries have')} "
        f"{f'fewer than {settings.negatives}' if settings.negatives else 'no'} negatives",
    )
    reporting.notice(
        counts["bare"], f"{counted(counts['bare'], 'query has', 'queries have')} no positive, and so no dark items"
    )
    reporting.notice(
        counts["unwritten"],
        f"{counted(counts['unwritten'], 'dark item has', 'dark items have')} a document that is not in the corpus; the "
        f"text is null "
        f"{found.pair() if found else ''}",
    )
    work.finish(kind="examples", counts=dict(counts))


def darken(path: str, settings: DarkSettings, write: Writer, work: Work) -> Counter[str]:
    """Write each example with its dark items, in order. The state is saved after a fixed number of examples."""
    state = DarkState.of(work) or DarkState(done=0, counts={})
    done, counts = state.done, Counter(state.counts)
    negatives, ratios, reinforced = settings.negatives, parse_ratios(settings.ratios), not settings.without_reinforced
    assert work.stream is not None, "a file is written"
    with reporting.progress("making dark examples", None, "examples", done) as progress:
        for number, example in enumerate(islice(read_examples(path), done, None), start=done + 1):
            made = with_dark_items(example, negatives, ratios, reinforced, settings.seed)
            counts.update(
                examples=1,
                negatives=len(made.negatives),
                dark=len(made.dark or ()),
                short=len(made.negatives) < max(1, negatives),
                bare=not example.positives,
                several=len(example.positives) > 1,
            )
            write(made, counts)
            work.stream.write(made.line())
            progress.advance(1)
            if number % EXAMPLES_A_SAVE == 0:
                DarkState(done=number, counts=dict(counts)).save(work)
    return counts


def with_dark_items(example: Example, negatives: int, ratios: Sequence[float], reinforced: bool, seed: int) -> Example:
    """Return an example with at most `negatives` drawn negatives (0: all) and its dark items, all of one positive.

    Reinforced negatives come first, in the order of the negatives, then noisy positives in the order of the ratios.
    Negatives keep their scores. Earlier dark items, their scores and texts are removed.
    """
    random = generator(seed, "dark", example.query_id)
    order = (
        range(len(example.negatives))
        if not negatives
        else random.permutation(len(example.negatives))[:negatives].tolist()
    )
    items: list[Dark] = []
    if example.positives:
        positive = example.positives[int(random.integers(len(example.positives)))]
        items += [Reinforced(positive, example.negatives[at]) for at in order] if reinforced else []
        items += [Noisy(positive, ratio, seed) for ratio in ratios]
    scores = example.negative_scores
    return replace(
        example,
        negatives=[example.negatives[at] for at in order],
        negative_scores=None if scores is None else [scores[at] for at in order],
        dark=items,
        dark_scores=None,
        others={key: value for key, value in example.others.items() if key != "dark_texts"},
    )


def in_corpus(corpus: str, path: str) -> Join:
    """Return a join for looking up documents in a corpus; raise InputError if it has none of the examples'."""
    store = open_store(corpus)
    Join(store, corpus).require_one(
        (document for example in read_examples(path) for document in (*example.positives, *example.negatives)),
        f"{shown(path)}: none of its documents is in {corpus}; do the two belong together?",
    )
    return Join(store, corpus)


def writer(corpus: Join | None, title_separator: str) -> Writer:
    """Return a function that adds the texts of an example's dark items, if there is a corpus."""
    if corpus is None:
        return lambda example, counts: None
    from drtools.methods.adam.dark import Special, dark_text  # imports torch, which is not needed without texts

    store = corpus.known
    assert isinstance(store, CorpusStore), "in_corpus opens it"

    def write(example: Example, counts: Counter[str]) -> None:
        items = example.dark or []
        found = {document: store.get(document) for item in items for document in documents_of(item)}
        texts = {
            document: document_text(whole.title, whole.text, title_separator)
            for document, whole in found.items()
            if whole
        }
        corpus.count(len(found), [document for document in found if document not in texts])
        known = [all(document in texts for document in documents_of(item)) for item in items]
        counts["unwritten"] += len(known) - sum(known)
        example.others["dark_texts"] = [
            dark_text(item, example.query_id, texts.__getitem__, Special()) if whole else None
            for item, whole in zip(items, known, strict=True)
        ]

    return write
