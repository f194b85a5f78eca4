"""Training files of other toolkits: reading one into a folder, and writing examples as one."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from drtools import reporting, units
from drtools.errors import InputError, param
from drtools.formats.corpora import read_queries
from drtools.formats.corpus_store import open_store
from drtools.formats.examples import read_examples
from drtools.formats.joins import Join
from drtools.formats.json_array import read_records
from drtools.formats.json_lines import json_line
from drtools.formats.lines import shown
from drtools.formats.toolkit_rows import Easy, Joined, layout_of, rows_of
from drtools.formats.toolkit_triples import read_triples
from drtools.formats.toolkit_tuples import check_rows, plan
from drtools.formats.toolkits import FORMATS, IDS_OF_OURS, Row
from drtools.units import counted

TRIPLES = "triples"
TUPLES = "sentence-transformers"  # the format that is written as n-tuples


def read_training_file(source: str, name: str, folder: Path, easy_negatives: Easy | None) -> Joined:
    """Write corpus.jsonl, queries.jsonl and examples.jsonl into a folder, and report anything unusual."""
    corpus = folder / "corpus.jsonl"
    with (
        open(corpus, "wb") as documents,
        open(folder / "queries.jsonl", "wb") as queries,
        reporting.progress(f"reading {shown(source)}", None, "records") as progress,
    ):
        joined = Joined(source, documents, queries, easy=easy_negatives or "drop")
        for number, row in _rows_of(source, name):
            joined.add(number, row)
            progress.advance()
    if not joined.by_query:
        raise InputError("no records", where=shown(source), expected=f"training data of {name}")
    with open(folder / "examples.jsonl", "wb") as stream:
        stream.writelines(example.line() for example in joined.examples())
    if joined.is_retitled:
        with open(corpus, "rb") as lines, open(folder / "retitled", "wb") as stream:
            stream.writelines(joined.retitled(lines))
        (folder / "retitled").replace(corpus)
    _tell_oddities(joined.counts, len(joined.queries), easy_negatives)
    return joined


def _rows_of(source: str, name: str) -> Iterator[tuple[int, Row]]:
    if name == TRIPLES:
        yield from read_triples(source)
        return
    for number, record in read_records(source):
        yield number, FORMATS[name].read(record, source, number)


def _tell_oddities(counts: Counter[str], queries: int, easy_negatives: str | None) -> None:
    reporting.notice(
        counts["contradictions"],
        f"{counted(counts['contradictions'], 'negative has', 'negatives have')} the same text as a positive of the "
        "query; kept as positives only",
    )
    reporting.notice(
        counts["repeated"], f"{counted(counts['repeated'], 'document is', 'documents are')} twice in a list; kept once"
    )
    reporting.notice(
        counts["disagreeing"],
        f"{counted(counts['disagreeing'], 'later line', 'later lines')} of a query had a different score or value of a "
        "key; the first one was kept",
    )
    reporting.notice(
        counts["retitled"],
        f"{counted(counts['retitled'], 'document has', 'documents have')} a title in one record and none in another; "
        "the title was kept",
    )
    reporting.notice(
        counts["without positives"],
        f"{counted(counts['without positives'], 'query has', 'queries have')} no positive",
    )
    if counts["without negatives"] < queries:  # a file of pairs has none at all, which is normal
        reporting.notice(
            counts["without negatives"], f"{counts['without negatives']:,} of {queries:,} queries have no negative"
        )
    left_out = f"{counted(counts['easy'], 'easy negative')} (negative_ctxs) were not added to the hard ones"
    if counts["filled"]:
        reporting.say(f"{counts['filled']:,} of {queries:,} queries have no hard negative; their easy ones were used")
    if easy_negatives is None:
        reporting.notice(
            counts["easy"],
            f"{left_out}; to add them, pass {param('easy_negatives')} append, or fill to add them only where there is "
            "no hard one",
        )
    elif counts["easy"]:
        reporting.say(left_out)


class TupleOptions(NamedTuple):
    """How sentence-transformers' rows are cut: negatives of a row, rows of a query, and the most rows of a file."""

    negatives: int | None = None
    rows_per_query: int | None = None
    most_rows: int | None = None


class Writer:
    """Examples with their texts, to be written as a training file of the format `name`.

    `counts` says what the format cannot hold, and `written` how many records there are; both are whole after `lines`.
    """

    def __init__(self, name: str, examples: str, corpus: str, queries: str, title_separator: str) -> None:
        self.name, self.examples, self.form = name, examples, FORMATS[name]
        self.layout, self.scored = layout_of(examples, title_separator)
        self.texts, self.store = read_queries(queries), open_store(corpus)
        self.names = queries, corpus
        self.counts: Counter[str] = Counter()
        self.written = 0

    def rows(self) -> Iterator[Row]:
        """Yield the examples with their texts."""
        return rows_of(read_examples(self.examples), self.texts, self.store, self.counts)

    def plan_tuples(self, options: TupleOptions) -> None:
        """Print the number of rows and the approximate size; raise InputError if there are too many rows."""
        layout = self.layout._replace(most_rows=options.rows_per_query)
        planned = plan(self.rows(), layout, options.negatives)
        self.counts.clear()
        words = planned.words(units.bytes_as_words(planned.size))
        if options.negatives is None and layout.negatives:
            words += f"; {param('negatives')} changes how many a row has"
        check_rows(planned.rows, options.most_rows, words)
        reporting.say(words)
        reporting.notice(
            planned.short,
            f"{counted(planned.short, 'example has', 'examples have')} fewer than "
            f"{planned.layout.size} negatives; their rows repeat them",
        )
        if planned.cut:
            reporting.say(
                f"{counted(planned.cut, 'example has', 'examples have')} more than "
                f"{options.rows_per_query} rows; their last positives or "
                "negatives were left out"
            )
        self.layout = planned.layout

    def lines(self, keep_without_negatives: bool) -> Iterator[bytes]:
        """Yield the records, one per line; raise InputError if there is none."""
        for row in self.rows():
            lost = [key for key in row.others if key in IDS_OF_OURS or not self.form.other_keys]
            self.counts["other keys"] += bool(lost)
            row.others = {key: value for key, value in row.others.items() if key not in lost}
            if self.form.draws_negatives and not row.negatives and not keep_without_negatives:
                continue
            for record in self.form.write(row, self.layout):
                yield (b"" if not self.form.is_array else b"," if self.written else b"[\n") + json_line(record)
                self.written += 1
        if not self.written:
            raise InputError(self._nothing())
        if self.form.is_array:
            yield b"]\n"

    def _nothing(self) -> str:
        if self.counts["without negatives"]:
            keep = (
                f", or pass {param('without_negatives')} keep, for a training without negatives"
                if self.form.draws_negatives
                else ""
            )
            return (
                f"{self.examples}: no example has a negative in the corpus, and {self.name} needs one of each query; "
                f"mine them with drtools mine-negatives{keep}"
            )
        return (
            f"{self.examples}: no example has a query text and a positive in the corpus; do the files belong together? "
            + " ".join(self._lacking())
        )

    def _lacking(self) -> tuple[str, str]:
        """Return a missing query id and a missing document id, each with an id that is there."""
        asked, found = Join(self.texts, self.names[0]), Join(self.store, self.names[1])
        for example in read_examples(self.examples) if self.counts["without text"] or self.counts["lacking"] else ():
            asked.look_up([example.query_id])
            found.look_up([*example.positives, *example.negatives])
        return asked.pair(), found.pair()

    def tell_lost(self, without_negatives: Literal["drop", "keep"] | None) -> None:
        """Report what the file does not hold."""
        counts, name = self.counts, self.name
        query, document = self._lacking()
        reporting.notice(
            counts["without text"],
            f"{counted(counts['without text'], 'example has', 'examples have')} a query without a "
            f"text; left out {query}",
        )
        reporting.notice(
            counts["without positives"],
            f"{counted(counts['without positives'], 'example has', 'examples have')} no positive in "
            "the corpus; left out",
        )
        reporting.notice(
            counts["lacking"],
            f"{counted(counts['lacking'], 'document of the examples is', 'documents of the examples are')} not "
            f"in the corpus; left out {document}",
        )
        reporting.notice(
            counts["contradictions"],
            f"{counted(counts['contradictions'], 'negative has', 'negatives have')} the same text as a positive of the "
            "query; left out",
        )
        self._tell_without_negatives(without_negatives)
        holds_all = self.layout.scores and (name != TUPLES or self.layout.negatives)
        reporting.notice(
            0 if self.form.some_scores or holds_all else self.scored,
            f"{counted(self.scored, 'example has', 'examples have')} scores that were left out, because {name} needs "
            "one for every positive and negative",
        )
        reporting.notice(
            counts["other keys"],
            f"{counted(counts['other keys'], 'example has', 'examples have')} keys that {name} cannot hold; left out",
        )

    def _tell_without_negatives(self, without_negatives: Literal["drop", "keep"] | None) -> None:
        count = self.counts["without negatives"]
        words = f"{counted(count, 'example has', 'examples have')} no negative"
        if self.name == TUPLES and self.layout.negatives:
            words += f"; {'triplets' if self.layout.size == 1 else 'n-tuples'} cannot hold them; left out"
        elif self.form.draws_negatives and without_negatives != "keep":
            words += (
                f"; left out, because {self.name}'s trainer fails without any ({param('without_negatives')} keep "
                "keeps them)"
            )
        if without_negatives is None:
            reporting.notice(count, words)
        elif count:
            reporting.say(words)
