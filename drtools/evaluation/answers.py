"""Matching of answers in texts, as in DPR, and judgements made from it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from drtools.errors import InputError, param
from drtools.formats.joins import Join
from drtools.formats.lines import shown
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.evaluation.measures import Measure
    from drtools.formats.corpus_store import CorpusStore
    from drtools.formats.trec import Qrels

Matching = Literal["string", "regex"]
ANSWERED = ("success", "rr", "mrr", "p")  # measures that need no relevant document beyond those listed


def words_of(text: str) -> list[str]:
    """Return a text's words and signs in lower case, after NFD normalization.

    A word is a sequence of letters, numbers and marks; any other visible character is a sign (DPR's SimpleTokenizer).
    """
    import regex

    normal = unicodedata.normalize("NFD", text)
    return [word.lower() for word in regex.findall(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]", normal)]


def string_matcher(answers: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that tells whether a text has the words of an answer, in order and next to each other."""
    wanted = [words for words in map(words_of, answers) if words]

    def holds(text: str) -> bool:
        words = words_of(text)
        return any(
            words[at : at + len(answer)] == answer for answer in wanted for at in range(len(words) - len(answer) + 1)
        )

    return holds


def regex_matcher(answers: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that tells whether a text matches one of the answers, regular expressions that ignore case."""
    import regex

    try:
        patterns = [
            regex.compile(unicodedata.normalize("NFD", answer), regex.IGNORECASE | regex.MULTILINE)
            for answer in answers
        ]
    except regex.error as error:
        raise InputError(
            f"answers {answers}: not a regular expression ({error})",
            remedy=f"correct it, or use {param('answer_match')} string",
        ) from None
    return lambda text: any(pattern.search(unicodedata.normalize("NFD", text)) for pattern in patterns)


def check_measures(measures: Iterable[Measure], min_rel: int = 1) -> None:
    """Raise InputError for measures that need all relevant documents, and for grades above 1."""
    for measure in measures:
        if measure.k is None or measure.kind not in ANSWERED:
            raise InputError(
                f"measure {measure.name} needs all relevant documents, and answers only judge listed ones",
                expected="Success@k, RR@k or P@k",
            )
        if (measure.min_rel or 1) > 1:
            raise InputError(
                f"measure {measure.name} with answers: the highest grade is 1, for documents with an answer"
            )
    if min_rel > 1:
        raise InputError(
            "the highest grade is 1, for documents with an answer",
            where=f"{param('min_rel')} {min_rel} with {param('answers')}",
            remedy=f"leave {param('min_rel')} out",
        )


MATCHERS = {"string": string_matcher, "regex": regex_matcher}


def judge(
    lists: Mapping[str, Iterable[str]], answers: dict[str, list[str]], store: CorpusStore, matching: Matching = "string"
) -> Qrels:
    """Return judgements for every query with answers.

    A listed document has grade 1 if its text, without the title, contains an answer, else 0. Listed documents that are
    not in the corpus are reported and have grade 0. Raises InputError if none is in the corpus.
    """
    qrels: Qrels = {}
    join = Join(store, shown(store.corpus))
    for query_id, given in answers.items():
        holds = MATCHERS[matching](given)
        found = {document_id: store.get(document_id) for document_id in lists.get(query_id, ())}
        join.count(len(found), [document_id for document_id, document in found.items() if document is None])
        qrels[query_id] = {
            document_id: int(document is not None and holds(document.text)) for document_id, document in found.items()
        }
    join.check(
        f"{join.name}: has none of the listed documents; do the runs and the corpus belong together?",
        f"{counted(join.missing, 'listed document is', 'listed documents are')} not in the corpus and "
        f"{'counts' if join.missing == 1 else 'count'} as not relevant",
    )
    return qrels
