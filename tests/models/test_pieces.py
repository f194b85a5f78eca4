"""Documents cut into pieces: by tokens, mapped to characters, scores looked up; against plain loops."""

import numpy as np
import pytest
from conftest import write_jsonl
from pieces_of import SIZES, cls_of, likeness, score_pieces

from drtools.cli.flags.encoder import PieceFlags
from drtools.errors import InputError
from drtools.formats.corpus_store import open_store
from drtools.methods.fgd.batches import FineGrainedBatches, read_piece_scores
from drtools.models.loader import load_encoder
from drtools.models.pieces import cut, layout_of, tokenize_pieces
from drtools.training.examples import Scores, usable_examples
from drtools.training.sampling import ExampleSource


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [1]),
        (15, [15]),
        (64, [64]),
        (79, [79]),
        (80, [64, 16]),
        (128, [64, 64]),
        (143, [64, 79]),
        (510, [64] * 7 + [62]),
    ],
)
def test_cuts(count, expected):
    spans = cut(count, 64, 16)
    assert np.diff(spans, axis=1).ravel().tolist() == expected
    assert [first for first, _ in spans] == [64 * place for place in range(len(expected))]


def test_a_row_has_places_for_the_longest_document(encoder_folder):
    encoder = load_encoder(encoder_folder)
    encoder.settings.max_document_tokens = 512
    layout = layout_of(encoder, PieceFlags())
    assert (layout.passages, layout.sentences, layout.places) == (4, 8, 13)
    assert layout.parents(4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and layout.parents(2).tolist() == [
        0,
        0,
        1,
        1,
        1,
        1,
        1,
        1,
    ]
    with pytest.raises(InputError, match="a sentence is part of a passage"):
        layout_of(encoder, PieceFlags(passage_tokens=10, sentence_tokens=20))
    with pytest.raises(InputError, match="no sentence has so many tokens"):
        layout_of(encoder, PieceFlags(sentence_tokens=8, least_piece_tokens=9))
    assert layout_of(encoder, PieceFlags(sentence_tokens=16, least_piece_tokens=16)).sizes.passage_tokens == 128
    encoder.settings.pieces = {"spans": "mean", "passage_tokens": 100, "sentence_tokens": 50, "least_piece_tokens": 2}
    assert layout_of(encoder, PieceFlags(sentence_tokens=25)).sizes == PieceFlags(100, 25, 2), (
        "what is not said is as it was trained"
    )


TEXTS = [
    "fox hound, otter heron",
    "",
    "  fox42 runs over the meadow and the hound sleeps by the river while otters swim in the lake and cliffs  ",
    "fox é hound 漢 otter " * 20,
]


@pytest.mark.parametrize("prompt", ["", "the fox: "])
def test_pieces_are_the_texts_own_tokens(encoder_folder, prompt):
    encoder = load_encoder(encoder_folder)
    encoder.settings.document_prompt = prompt
    layout = layout_of(encoder, SIZES)
    made, plain = tokenize_pieces(encoder, TEXTS, layout), encoder.tokenize(TEXTS, "document")
    assert np.array_equal(made.tokens.flat, plain.flat) and np.array_equal(made.tokens.starts, plain.starts)
    assert (made.truncated, made.empty) == (plain.truncated, plain.empty) == (1, 1)
    before = len(encoder.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    for at, text in enumerate(TEXTS):
        ids = plain.flat[plain.starts[at] : plain.starts[at + 1]].tolist()
        own = ids[1 + before : -1]
        assert made.spans[at, 0].tolist() == [0, len(ids)]
        for first, places, size in ((1, layout.passages, 16), (1 + layout.passages, layout.sentences, 8)):
            there = [(start, end) for start, end in made.spans[at, first : first + places] if end]
            assert [own[start : start + size] for start in range(0, len(own), size)][: len(there) - 1] == [
                ids[start:end] for start, end in there[:-1]
            ]
            assert [token for start, end in there for token in ids[start:end]] == own
            assert all(end - start >= 3 for start, end in there[1:])
        for (start, end), (first, last) in zip(made.spans[at, 1:], made.characters[at, 1:], strict=True):
            if end and not encoder.tokenizer.convert_ids_to_tokens(ids[start]).startswith(
                "##"
            ):  # one that begins inside a word reads otherwise alone
                assert (
                    encoder.tokenizer(text.strip()[first:last], add_special_tokens=False)["input_ids"] == ids[start:end]
                )


def test_pieces_of_a_byte_level_tokenizer_are_its_tokens_and_read_as_they_do(encoder_folder):
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaTokenizer

    vocabulary = {
        token: at for at, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())])
    }
    encoder = load_encoder(encoder_folder)
    encoder.tokenizer, encoder.settings.max_document_tokens = RobertaTokenizer(vocab=vocabulary, merges=[]), 64
    layout, whole = layout_of(encoder, SIZES), 0
    made, plain = tokenize_pieces(encoder, TEXTS, layout), encoder.tokenize(TEXTS, "document")
    assert np.array_equal(made.tokens.flat, plain.flat) and made.truncated == plain.truncated == 2
    for at, text in enumerate(TEXTS):
        ids = plain.flat[plain.starts[at] : plain.starts[at + 1]].tolist()
        for first, places in ((1, layout.passages), (1 + layout.passages, layout.sentences)):
            there = [number for number in range(first, first + places) if made.spans[at, number, 1]]
            assert [token for number in there for token in ids[slice(*made.spans[at, number])]] == ids[1:-1]
            for number in there:
                read, (begin, end) = (
                    encoder.tokenizer.decode(ids[slice(*made.spans[at, number])]),
                    made.characters[at, number],
                )
                if "\ufffd" not in read:  # no letter of several bytes is cut in two
                    assert text.strip()[begin:end].strip() == read.strip()
                    whole += 1
    assert whole > 20


def test_a_document_of_one_piece_holds_it_once(encoder_folder):
    encoder = load_encoder(encoder_folder)
    tokens = tokenize_pieces(
        encoder,
        ["fox hound", "fox hound otter heron badger salmon falcon marten lynx beaver adder", ""],
        layout_of(encoder, SIZES),
    )
    assert tokens.pieces(0) == [(0, 9)] and len(tokens.pieces(1)) == 3 and tokens.pieces(2) == []
    assert [counts.tolist() for counts in tokens.counts()] == [[1, 1, 0], [0, 2, 0]]


@pytest.fixture
def scored(toy, bert, tmp_path):
    model = cls_of(bert, tmp_path / "cls")
    return model, score_pieces(toy, model, tmp_path / "scored.jsonl")


def batches(toy, model, path, **settings):
    encoder, store = load_encoder(model), open_store(toy.corpus)
    source = ExampleSource(usable_examples(path, toy.queries, store, Scores.TEACHER), store)
    pieces = read_piece_scores(path, source.examples, store)
    return FineGrainedBatches(
        [source],
        [pieces],
        encoder,
        layout_of(encoder, SIZES),
        **{"batch_queries": 6, "negatives": 2, "seed": 1} | settings,
    )


def test_scores_of_every_piece_by_a_loop(toy, scored):
    made = batches(toy, *scored)
    seen = set()
    for step in range(4):
        batch, drawing = made(step), made.draw(step)
        for column, (source, row) in enumerate(drawing.documents):
            query, text = drawing.visits[batch.owner[column]].query, source.text(row)
            tokens = tokenize_pieces(made.model, [text], made.layout)
            spans = tokens.spans[0, 1:]
            for level, first, size in (
                (batch.passages, 0, made.layout.passages),
                (batch.sentences, made.layout.passages, made.layout.sentences),
            ):
                for place in range(size):
                    assert level.there[column, place] == (spans[first + place, 1] > 0)
                    if level.there[column, place]:
                        start, end = tokens.characters[0, 1 + first + place]
                        assert level.scores[column, place] == likeness(query, text[start:end])
            for place in np.flatnonzero(batch.sentences.there[column]):
                passage = spans[batch.parents[column, place]]
                assert passage[0] <= spans[made.layout.passages + place, 0] < passage[1]
            assert batch.once[column] == (
                batch.passages.there[column].sum() == batch.sentences.there[column].sum() == 1
            )
            seen.add(int(batch.sentences.there[column].sum()))
    assert len(seen) > 2, "documents of several lengths were looked at"


def test_processes_share_one_batch(toy, scored):
    whole = batches(toy, *scored)(3)
    halves = [
        batches(toy, *scored, shares=lambda count: [slice(0, count // 2), slice(count // 2, count)], rank=rank)(3)
        for rank in (0, 1)
    ]
    assert np.array_equal(
        np.concatenate([half.tokens["document"].spans for half in halves]), whole.tokens["document"].spans
    )
    for half in halves:
        assert all(
            np.array_equal(getattr(half, name)[part], getattr(whole, name)[part])
            for name in ("passages", "sentences")
            for part in (0, 1)
        )


def without_pieces(record):
    del record["pieces"]


def shorter(record):
    record["piece_scores"].pop()


def unscored(record):
    record["piece_scores"][0] = None


def misplaced(record):
    record["pieces"][0]["start"] = "0"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_pieces, "no scored pieces were found; run teacher-score pieces"),
        (shorter, "piece_scores does not match"),
        (unscored, "is None, expected a number"),
        (misplaced, 'expected {"id": document'),
    ],
)
def test_bad_pieces_are_named(toy, scored, tmp_path, spoil, words):
    path = score_pieces(
        toy, scored[0], tmp_path / "spoilt.jsonl", lambda record: spoil(record) if record["query_id"] == "q3" else None
    )
    with pytest.raises(InputError, match="query 'q3'") as error:
        batches(toy, scored[0], path)
    assert words in str(error.value)


@pytest.mark.slow
def test_scores_are_packed_while_they_are_read(toy, tmp_path):
    import tracemalloc

    names, spans = [f"q{at}" for at in range(100)], [{"id": "d1", "start": at, "end": at + 1} for at in range(2000)]
    queries = write_jsonl(tmp_path / "many.jsonl", [{"_id": name, "text": "fox"} for name in names])
    path = write_jsonl(
        tmp_path / "long.jsonl",
        [
            {
                "query_id": name,
                "positives": ["d1"],
                "negatives": [],
                "positive_scores": [1.0],
                "negative_scores": [],
                "scored_by": "counts@1",
                "pieces": spans,
                "piece_scores": [at + 0.5 for at in range(2000)],
            }
            for name in names
        ],
    )
    store = open_store(toy.corpus)
    examples = usable_examples(path, queries, store, Scores.TEACHER)
    tracemalloc.start()
    try:
        kept = read_piece_scores(path, examples, store)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept.scores[99][:2].tolist() == [0.5, 1.5] and len(kept.scores.flat) == 200_000
    assert peak < 3 * kept.scores.flat.nbytes + 2**21, (
        "two copies of the scores, room to grow, and 2 MB for one example as it is parsed"
    )


def test_pieces_of_another_cut_are_refused(toy, scored):
    made = batches(toy, *scored)
    made.layout = layout_of(made.model, PieceFlags(passage_tokens=12, sentence_tokens=6, least_piece_tokens=3))
    with pytest.raises(InputError, match="but this encoder cuts it into"):
        made(0)


def test_a_tokenizer_without_places_is_refused(encoder_folder, monkeypatch):
    encoder = load_encoder(encoder_folder)
    monkeypatch.setattr(type(encoder.tokenizer), "is_fast", False)
    with pytest.raises(InputError, match="does not give the positions of tokens in the text"):
        layout_of(encoder, SIZES)


def test_pieces_of_texts_that_are_lower_cased_stand_where_they_were_written(lowering_folder):
    encoder = load_encoder(lowering_folder)
    assert encoder.settings.lower_case
    layout = layout_of(encoder, PieceFlags(passage_tokens=4, sentence_tokens=2, least_piece_tokens=1))
    text = "FOX Runs İ NEAR the LAKE and Hunts SALMON"  # the third word grows when it is lower-cased
    pieces = [text[start:end] for start, end in tokenize_pieces(encoder, [text], layout).pieces(0)]
    assert pieces[: layout.passages] and " ".join(pieces[: layout.passages])
    assert pieces[0].startswith("FOX Runs") and any(piece.endswith("Hunts SALMON") for piece in pieces)
