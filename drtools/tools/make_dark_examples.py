"""Make dark examples for ADAM: what lies between a query's positive and its negatives, for a teacher to score.

    drtools mine-negatives ... | drtools make-dark-examples - | drtools teacher-score --examples - ... -o scored.jsonl

Each of a query's negatives joined with the positive is a reinforced negative; the positive with a share of its words
masked, for each of --ratios, a noisy positive. distill-adam draws some of the listed negatives anew at each visit of a
query, with their dark items, so all of them get one; --negatives keeps fewer, which are quicker to score. A query with
several positives has one of them drawn for all its dark examples. Items are kept by what they are made of, and become
text by each model's own tokenizer; --text writes them out for a person too.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Role, Seed, TitleSeparator
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.formats.joins import Join
from drtools.formats.lines import shown
from drtools.outputs import work as output

EXAMPLES_A_SAVE = 1024
PAPER_RATIOS = "0.15,0.25,0.35,0.45,0.55"  # Tao et al.


def main(
    file: FileOutput,
    examples: Annotated[str, Argument(help="examples: JSONL, `.gz` or `-`"), Role.INPUT],
    negatives: Annotated[
        int, Option(min=0, help="keep so many drawn negatives of each query, and drop the others; 0: keep all")
    ] = 0,
    ratios: Annotated[
        str, Option(help="shares of words to mask, with commas between; empty: no noisy positives")
    ] = PAPER_RATIOS,
    without_reinforced: Annotated[bool, Option("--without-reinforced", help="no reinforced negatives")] = False,
    seed: Seed = 42,
    text: Annotated[
        bool, Option("--text", help="write the texts too, as dark_texts, with [SEP] and [MASK]; needs --corpus")
    ] = False,
    corpus: Annotated[str | None, Option(help="their corpus, for --text"), Role.INPUT] = None,
    title_separator: TitleSeparator = " ",
) -> None:
    """Compose: examples, drawn negatives, dark items, examples."""
    from drtools.formats.dark_items import parse_ratios

    shares = parse_ratios(ratios)
    if not shares and without_reinforced:
        raise InputError("--ratios '' with --without-reinforced: nothing would be made; leave one of the two out")
    if text != bool(corpus):
        raise InputError(
            "--text needs the texts: say --corpus CORPUS"
            if text
            else "--corpus is for --text, which was not said; leave it out"
        )
    with output.file(file) as work:
        found = in_corpus(corpus, examples) if corpus else None
        write = writer(found, title_separator)
        counts = darken(examples, negatives, shares, not without_reinforced, seed, write, work)
        reporting.say(
            f"{counts['examples']:,} examples with {counts['negatives']:,} negatives and {counts['dark']:,} dark items"
        )
        if counts["several"]:
            reporting.say(f"{counts['several']:,} queries have several positives, of which one was drawn")
        reporting.notice(
            counts["short"],
            f"{counts['short']:,} queries have {f'fewer than {negatives}' if negatives else 'no'} negatives",
        )
        reporting.notice(counts["bare"], f"{counts['bare']:,} queries have no positive, and so no dark items")
        reporting.notice(
            counts["unwritten"],
            f"{counts['unwritten']:,} dark items have a document that is not in the corpus; their text is null "
            f"{found.pair() if found else ''}",
        )
        work.finish(kind="examples", counts=dict(counts))


def darken(path: str, negatives: int, ratios: list[float], reinforced: bool, seed: int, write, work) -> Counter:
    """Write each example with its dark items, in order; what is written counts as done every so many examples."""
    from itertools import islice

    from drtools.formats.examples import read_examples
    from drtools.methods.adam.darken import with_dark_items

    done, counts = work.state.get("done", 0), Counter(work.state.get("counts", {}))
    with reporting.progress("making dark examples", None, "examples", done) as progress:
        for number, example in enumerate(islice(read_examples(path), done, None), start=done + 1):
            made = with_dark_items(example, negatives, ratios, reinforced, seed)
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
                work.save(done=number, counts=dict(counts))
    return counts


def in_corpus(corpus: str, path: str) -> Join:
    """Return what looks documents up in a corpus; InputError if it has none of those of the examples."""
    from drtools.formats.corpus_store import open_store
    from drtools.formats.examples import read_examples

    store = open_store(corpus)
    Join(store, corpus).require_one(
        (document for example in read_examples(path) for document in (*example.positives, *example.negatives)),
        f"{shown(path)}: none of its documents is in {corpus}; do the two belong together?",
    )
    return Join(store, corpus)


def writer(corpus: Join | None, title_separator: str):
    """Return a function that adds the texts of an example's dark items, if there is a corpus to take them from."""
    if corpus is None:
        return lambda example, counts: None
    from drtools.formats.corpora import document_text
    from drtools.formats.corpus_store import Store
    from drtools.formats.dark_items import documents_of
    from drtools.methods.adam.dark import Special, dark_text

    store = corpus.known
    assert isinstance(store, Store), "what in_corpus opens"

    def write(example, counts):
        found = {document: store.get(document) for item in example.dark for document in documents_of(item)}
        texts = {
            document: document_text(whole.title, whole.text, title_separator)
            for document, whole in found.items()
            if whole
        }
        corpus.count(len(found), [document for document in found if document not in texts])
        known = [all(document in texts for document in documents_of(item)) for item in example.dark]
        counts["unwritten"] += len(known) - sum(known)
        example.others["dark_texts"] = [
            dark_text(item, example.query_id, texts.__getitem__, Special()) if whole else None
            for item, whole in zip(example.dark, known, strict=True)
        ]

    return write
