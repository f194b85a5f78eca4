"""Training batches for FGD.

They are drawn by PairDraws, with documents cut into pieces and the teacher's score of each piece.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.errors import InputError, param
from drtools.formats.examples import read_examples
from drtools.formats.lines import shown
from drtools.models.pieces import PieceLayout, PieceTokens, check_of, tokenize_pieces
from drtools.models.tokens import Tokenized
from drtools.training.distributed import Shares, single_share
from drtools.training.examples import RaggedArray, TrainingExamples
from drtools.training.pairs import PairDraws
from drtools.training.sampling import ExampleSource
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.formats.examples import Example
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair


class Level(NamedTuple):
    """One level of C documents' pieces: `there` bool [C, n], the teacher's `scores` float32 [C, n]."""

    there: np.ndarray
    scores: np.ndarray


class PieceBatch(NamedTuple):
    """A PairBatch whose documents are rows of pieces.

    `parents` int64 [C, S] is the passage in which a sentence starts. `once` bool [C] is true if the only passage of a
    document is its only sentence.
    """

    tokens: dict[str, Tokenized]
    counts: dict[str, Sequence[int]]
    relevant: np.ndarray
    owner: np.ndarray
    scores: np.ndarray | None
    passages: Level
    sentences: Level
    parents: np.ndarray
    once: np.ndarray


@dataclass
class PieceScores:
    """The teacher's scores of the pieces of N examples' documents.

    `documents` holds (row, passages, sentences, checksum of the cut) of each document of an example, concatenated.
    `scores` holds the scores of their pieces, in the same order.
    """

    path: str
    documents: RaggedArray
    scores: RaggedArray

    def of(self, at: int, row: int) -> tuple[int, int, int, np.ndarray]:
        """Return (passages, sentences, checksum, scores) of a document of an example."""
        documents = self.documents[at].reshape(-1, 4)
        place = int(np.flatnonzero(documents[:, 0] == row)[0])
        first = int(documents[:place, 1:3].sum())
        passages, sentences, check = documents[place, 1:].tolist()
        return passages, sentences, check, self.scores[at][first : first + passages + sentences]


def read_piece_scores(
    path: str, examples: TrainingExamples, store: CorpusStore, expected: dict[str, object] | None = None
) -> PieceScores:
    """Read the keys `pieces` and `piece_scores` of the training examples.

    Raises InputError if their `pieces_cut` differs from `expected`.
    """
    wanted = {query_id: at for at, query_id in enumerate(examples.query_ids)}
    documents: list[array[int]] = []
    scores: list[array[float]] = []
    for example in read_examples(path):
        if example.query_id in wanted:
            at = wanted[example.query_id]
            assert at == len(documents), "usable examples keep the order of their file"
            found = _by_document(example, path)
            _check_cut(example, path, expected)
            row_of = dict(zip(store.rows_of(list(found)), found, strict=True))
            kept = [
                (row, found[row_of[row]] if row in row_of else [])
                for row in (*examples.positives[at].tolist(), *examples.negatives[at].tolist())
            ]
            # arrays, since a Python number takes eight times the memory
            documents.append(
                array(
                    "i",
                    [
                        number
                        for row, pieces in kept
                        for number in (
                            row,
                            *_levels([span for span, _ in pieces]),
                            check_of([span for span, _ in pieces]),
                        )
                    ],
                )
            )
            scores.append(array("f", [score for _, pieces in kept for _, score in pieces]))
    return PieceScores(path, RaggedArray.of(documents), RaggedArray.of(scores, "f"))


def _check_cut(example: Example, path: str, expected: dict[str, object] | None) -> None:
    """Raise InputError for pieces that were cut differently than in this training.

    Pieces without a record are compared when they are drawn.
    """
    found = example.others.get("pieces_cut")
    if expected is None or not isinstance(found, dict):
        return
    other = [name for name, value in expected.items() if found.get(name) != value]
    if other:
        told = ", ".join(
            "by another tokenizer"
            if name == "tokenizer"
            else f"with --{name.replace('_', '-')} {found.get(name)!r}, here {expected[name]!r}"
            for name in other
        )
        raise InputError(
            f"query {example.query_id!r}: its pieces were cut {told}",
            where=shown(path),
            remedy=f"train with the former settings, or run teacher-score {param('pieces')} again with the latter",
        )


def _by_document(example: Example, path: str) -> dict[str, list[tuple[tuple[int, int], float]]]:
    """Return {document id: [((start, end), score)]} of an example, in its order."""
    pieces, scores = example.others.get("pieces"), example.others.get("piece_scores")
    here = f"{shown(path)}: query {example.query_id!r}"
    if pieces is None or scores is None:
        raise InputError(
            "no scored pieces were found",
            where=here,
            remedy=f"run teacher-score {param('pieces')} MODEL on the examples, with the MODEL that you train",
        )
    if not isinstance(pieces, list) or not isinstance(scores, list) or len(pieces) != len(scores):
        raise InputError(
            "piece_scores does not match pieces", where=here, expected="a list of numbers, one for each piece"
        )
    found: dict[str, list[tuple[tuple[int, int], float]]] = {}
    for piece, score in zip(pieces, scores, strict=True):
        if (
            not isinstance(piece, dict)
            or not isinstance(piece.get("id"), str)
            or not all(isinstance(piece.get(name), int) for name in ("start", "end"))
        ):
            raise InputError(
                f"found the piece {piece!r}",
                where=here,
                expected='{"id": document, "start": characters, "end": characters}',
            )
        if not isinstance(score, int | float):
            raise InputError(
                f"the score of the piece {piece!r} is {score!r}",
                where=here,
                expected="a number",
                remedy=f"run teacher-score {param('pieces')} again",
            )
        found.setdefault(piece["id"], []).append(((piece["start"], piece["end"]), float(score)))
    return found


def _levels(pieces: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the numbers of passages and sentences among a document's pieces.

    The first sentence starts at the beginning of the text again.
    """
    again = [at for at in range(1, len(pieces)) if pieces[at][0] <= pieces[at - 1][0]]
    passages = again[0] if again else len(pieces)
    return passages, len(pieces) - passages


class FineGrainedBatches(PairDraws):
    """The endless sequence of these batches. `pieces` holds the scores of each source, `layout` the places in a row."""

    def __init__(
        self,
        sources: Sequence[ExampleSource],
        pieces: Sequence[PieceScores],
        model: Encoder | EncoderPair[Encoder],
        layout: PieceLayout,
        *,
        batch_queries: int,
        negatives: int,
        seed: int,
        shares: Shares = single_share,
        rank: int = 0,
    ) -> None:
        super().__init__(
            sources, model, batch_queries=batch_queries, negatives=negatives, seed=seed, shares=shares, rank=rank
        )
        self.layout = layout
        self.pieces = {id(source): scores for source, scores in zip(sources, pieces, strict=True)}

    def document_tokens(self, documents: Sequence[tuple[ExampleSource, int]]) -> PieceTokens:
        """Look up and tokenize documents, with their pieces."""
        return tokenize_pieces(self.model.of("document"), [source.text(row) for source, row in documents], self.layout)

    def __call__(self, step: int) -> PieceBatch:
        """Draw and tokenize the batch of a step, and look up the scores of all its pieces, also of other processes."""
        batch = self.pairs(step)
        visits, _, documents, owner = self.draw(step)
        found = [
            self.pieces[id(source)].of(visits[mine].at, row)
            for mine, (source, row) in zip(owner, documents, strict=True)
        ]
        tokens = batch.tokens["document"]
        assert isinstance(tokens, PieceTokens), "document_tokens returns them"
        self._check(tokens, self.shares(len(documents))[self.rank], documents, found)
        passages = Level(*(np.zeros((len(found), self.layout.passages), kind) for kind in (bool, np.float32)))
        sentences = Level(*(np.zeros((len(found), self.layout.sentences), kind) for kind in (bool, np.float32)))
        for at, (first, second, _, scores) in enumerate(found):
            for level, part in ((passages, scores[:first]), (sentences, scores[first:] if second else scores)):
                level.there[at, : len(part)] = True
                level.scores[at, : len(part)] = part
        return PieceBatch(
            *batch[:5],  # what PieceBatch begins with
            passages,
            sentences,
            np.stack([self.layout.parents(each[0]) for each in found]),
            np.array([each[1] == 0 for each in found]),
        )

    def _check(
        self,
        tokens: PieceTokens,
        share: slice,
        documents: list[tuple[ExampleSource, int]],
        found: list[tuple[int, int, int, np.ndarray]],
    ) -> None:
        """Raise InputError for scores of pieces that another encoder would cut."""
        for at, ((source, row), (_, _, check, scores)) in enumerate(zip(documents[share], found[share], strict=True)):
            pieces = tokens.pieces(at)
            if check_of(pieces) != check:
                raise InputError(
                    (
                        f"document {source.store.at(row).id!r} has "
                        f"{counted(len(scores), 'scored piece')}, but this encoder "
                        f"cuts it into {len(pieces)}, or at other places"
                    ),
                    where=shown(self.pieces[id(source)].path),
                    remedy=(
                        f"run teacher-score {param('pieces')} with the {param('model')}, "
                        f"{param('max_document_tokens')}, {param('title_separator')} and sizes of this training"
                    ),
                )
