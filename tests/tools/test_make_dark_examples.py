"""make-dark-examples.

Items of drawn negatives and one positive, a pure function of seed and query, continued, refused in one line.
"""

import json

import pytest
from conftest import write_jsonl


@pytest.fixture
def mined(toy):
    """Twelve negatives a query with the scores of who mined them; q1 has three positives, q2 two negatives, q3 none."""
    records = [
        {
            "query_id": f"q{n}",
            "positives": [f"d{n}"],
            "negatives": [f"d{20 + (n + step) % 40}" for step in range(12)],
            "positive_scores": [9.5],
            "negative_scores": [float(20 + (n + step) % 40) for step in range(12)],
            "note": n,
        }
        for n in range(20)
    ]
    records[1] |= {"positives": ["d1", "d2", "d3"], "positive_scores": [1, 2, None]}
    records[2] |= {"negatives": ["d30", "d31"], "negative_scores": [30.0, 31.0]}
    records[3] |= {"negatives": [], "negative_scores": []}
    toy.examples = write_jsonl(toy.folder / "mined.jsonl", records)
    toy.records = records
    return toy


def lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def test_items_are_of_the_drawn_negatives_and_one_positive(mined, drtools):
    outcome = drtools("make-dark-examples", mined.examples, "--negatives", "4", "-o", mined.folder / "dark.jsonl")
    assert outcome.status == 0, outcome.err
    for before, made in zip(mined.records, lines(mined.folder / "dark.jsonl"), strict=True):
        assert {key: made[key] for key in ("query_id", "positives", "positive_scores", "note")} == {
            key: before[key] for key in ("query_id", "positives", "positive_scores", "note")
        }
        assert len(made["negatives"]) == min(4, len(before["negatives"])) and set(made["negatives"]) <= set(
            before["negatives"]
        )
        assert made["negative_scores"] == [float(document[1:]) for document in made["negatives"]], (
            "scores go with their documents"
        )
        (positive,) = {item["positive"] for item in made["dark"]}
        assert positive in before["positives"]
        assert made["dark"] == [
            *({"kind": "reinforced", "positive": positive, "negative": document} for document in made["negatives"]),
            *(
                {"kind": "noisy", "positive": positive, "ratio": ratio, "seed": 42}
                for ratio in (0.15, 0.25, 0.35, 0.45, 0.55)
            ),
        ]
        assert "dark_scores" not in made
    for words in (
        "20 examples with 74 negatives and 174 dark items",
        "1 query has several positives; one was drawn",
        "2 queries have fewer than 4 negatives",
    ):
        assert words in outcome.err
    assert "several positives" not in outcome.err.split("note:")[-1], "several positives are nothing odd"
    assert (
        drtools(
            "make-dark-examples", mined.examples, "--negatives", "4", "--strict", "-o", mined.folder / "strict.jsonl"
        ).status
        == 2
    )


def test_a_draw_depends_on_the_seed_and_the_query_alone(mined, drtools):
    ten = "--negatives", "10"
    drtools("make-dark-examples", mined.examples, *ten, "-o", mined.folder / "a")
    whole = lines(mined.folder / "a")
    write_jsonl(mined.folder / "some.jsonl", mined.records[7:9])
    drtools("make-dark-examples", mined.folder / "some.jsonl", *ten, "-o", mined.folder / "b")
    assert lines(mined.folder / "b") == whole[7:9]
    drtools("make-dark-examples", mined.folder / "some.jsonl", *ten, "--seed", "43", "-o", mined.folder / "c")
    other = lines(mined.folder / "c")
    assert [record["negatives"] for record in other] != [record["negatives"] for record in whole[7:9]]
    assert {item["seed"] for record in other for item in record["dark"] if item["kind"] == "noisy"} == {43}


def test_every_listed_negative_gets_a_dark_item_unless_fewer_are_asked_for(mined, drtools):
    outcome = drtools("make-dark-examples", mined.examples)
    assert outcome.status == 0, outcome.err
    made = [json.loads(line) for line in outcome.out.splitlines()]
    assert [record["negatives"] for record in made] == [record["negatives"] for record in mined.records]
    for record in made:
        paired = [item["negative"] for item in record["dark"] if item["kind"] == "reinforced"]
        assert paired == record["negatives"]
    assert sum(len(record["dark"]) for record in made) == 18 * 12 + 2 + 20 * 5


def test_what_is_made_is_what_was_asked_for(mined, drtools):
    for words, kinds in ((["--without-reinforced", "--ratios", "0.2"], {"noisy"}), (["--ratios", ""], {"reinforced"})):
        outcome = drtools(
            "make-dark-examples", "-", "--negatives", "0", *words, stdin=open(mined.examples, "rb").read()
        )
        assert outcome.status == 0, outcome.err
        made = [json.loads(line) for line in outcome.out.splitlines()]
        assert {item["kind"] for record in made for item in record["dark"]} == kinds
        assert [record["negatives"] for record in made] == [record["negatives"] for record in mined.records], (
            "0: all, as they are"
        )
    again = drtools("make-dark-examples", "-", "--negatives", "0", stdin=outcome.out.encode())
    assert all(
        len(json.loads(line)["dark"]) == len(json.loads(line)["negatives"]) + 5 for line in again.out.splitlines()
    ), "made anew, not added to"


def test_text_for_a_person(mined, drtools):
    outcome = drtools(
        "make-dark-examples",
        mined.examples,
        "--negatives",
        "1",
        "--text",
        "--corpus",
        mined.corpus,
        "--title-separator",
        " - ",
    )
    texts = {document["_id"]: f"{document['title']} - {document['text']}" for document in mined.documents}
    first = json.loads(outcome.out.splitlines()[0])
    assert first["dark_texts"][0] == f"{texts['d0']}[SEP]{texts[first['negatives'][0]]}"
    for text, ratio in zip(first["dark_texts"][1:], (0.15, 0.25, 0.35, 0.45, 0.55), strict=True):
        words = texts["d0"].split()
        assert text.split().count("[MASK]") == max(1, round(ratio * len(words)))
        assert all(shown in ("[MASK]", word) for shown, word in zip(text.split(), words, strict=True))
    write_jsonl(mined.folder / "gone.jsonl", [mined.records[0] | {"negatives": ["gone"], "negative_scores": [1.0]}])
    lacking = drtools(
        "make-dark-examples", mined.folder / "gone.jsonl", "--text", "--corpus", mined.corpus, "--ratios", "0.5"
    )
    assert (
        json.loads(lacking.out)["dark_texts"][0] is None
        and "1 dark item has a document that is not in the corpus" in lacking.err
    )


def test_a_stopped_work_is_continued_to_the_same_bytes(mined, drtools, monkeypatch, interrupt_at):
    from drtools.methods.adam import darken

    words = ["make-dark-examples", mined.examples, "--negatives", "3"]
    drtools(*words, "-o", mined.folder / "whole")
    monkeypatch.setattr(darken, "EXAMPLES_A_SAVE", 5)
    calls = interrupt_at(darken, "with_dark_items", 13)
    assert drtools(*words, "-o", mined.folder / "stopped").status == 130
    calls += [1] * 100
    assert drtools(*words, "-o", mined.folder / "stopped").status == 0
    assert len(calls) == 113 + 10, "ten were kept"
    assert (mined.folder / "stopped").read_bytes() == (mined.folder / "whole").read_bytes()


BAD = {
    "nothing to make": (["--ratios", "", "--without-reinforced"], None, "no dark items would be made"),
    "a ratio": (["--ratios", "0.1,2"], None, "--ratios 0.1,2: expected shares"),
    "text without a corpus": (["--text"], None, "use --corpus CORPUS"),
    "a corpus without text": (["--corpus", "CORPUS"], None, "--corpus needs --text"),
    "a line that is no example": ([], '{"query_id": "q1", "positives": "d1", "negatives": []}', ":1: positives is str"),
    "a bad dark item": (
        [],
        '{"query_id": "q1", "positives": ["d1"], "negatives": [], "dark": [{"kind": "x"}]}',
        ":1: dark item 1 is of kind 'x'",
    ),
    "scores of other items": (
        [],
        '{"query_id": "q1", "positives": ["d1"], "negatives": [], "dark_scores": [1]}',
        ":1: dark_scores is 1 numbers, expected 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line(mined, drtools, name):
    words, line, expected = BAD[name]
    path = mined.folder / "bad.jsonl"
    path.write_text(line or open(mined.examples).read())
    outcome = drtools(
        "make-dark-examples",
        path,
        *(mined.corpus if word == "CORPUS" else word for word in words),
        "-o",
        mined.folder / "out",
    )
    assert outcome.status == 2 and expected in outcome.err, outcome.err
    assert len([one for one in outcome.err.splitlines() if not one.startswith("note:")]) == 1
    assert not (mined.folder / "out").exists()
