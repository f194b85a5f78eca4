"""What is tested on and was trained on: counted against a double loop, and reported by trainings and by eval."""

import json
import random
import string
import unicodedata

import pytest
from conftest import write_jsonl

from drtools import reporting
from drtools.cli import console
from drtools.formats.leakage import Trained, note_leakage, overlap
from drtools.formats.plain_text import plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("What do otters eat?", "what do otters eat"),
        ("  what, do\n OTTERS -- eat ", "what do otters eat"),
        ("C++ and C", "c++ and c"),  # signs of mathematics are no punctuation
        ("Ist das größer?", "ist das grösser"),
        ("STRASSE, Straße", "strasse strasse"),
        ("caf\u00e9", "caf\u00e9"),
        ("cafe\u0301", "caf\u00e9"),
        ("cafe", "cafe"),  # another word
        ("ＯＴＴＥＲＳ　ｅａｔ！", "otters eat"),
        ("ﬁsh\u200b and\u00adall\ufeff", "fish andall"),
        ("「魚」、川。", "魚 川"),
        ("कि", "कि"),  # marks stay
        ("?!", "?!"),  # nothing else is there
    ],
)
def test_plain_form(text, plain):
    assert plain_text(text) == plain


def test_plain_form_is_one_of_each_text_and_the_short_way_for_ascii_is_the_long_one():
    """Against the properties of Unicode, a character at a time."""
    ignorable = {"\u200b", "\u00ad", "\ufeff", "\u2060", "\ufe0f", "\u034f"}
    generator = random.Random(4)
    signs = [*map(chr, range(128)), *"éÉßẞﬁΣςİıＡ１「」、…“”–٣αἈ\u0301\u00a0\u3000", *ignorable]
    for n in range(3000):
        text = "".join(generator.choices(signs[:128] if n % 2 else signs, k=12))
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        kept = [each for each in folded if each not in ignorable]
        spaced = "".join(" " if unicodedata.category(each)[0] == "P" else each for each in kept)
        assert plain_text(text) == (" ".join(spaced.split()) or text.strip()), repr(text)
        for form in ("NFC", "NFD", "NFKC"):
            assert plain_text(unicodedata.normalize(form, text)) == plain_text(text) or not spaced.split()


def naive(tested, trained):
    def bare(text):
        kept = "".join(" " if each in string.punctuation.replace("+", "") else each for each in text.lower())
        return kept.split()

    exact = {key for key, text in tested.items() if any(text == other for _, other in trained)}
    plain = {key for key, text in tested.items() if any(bare(text) == bare(other) for _, other in trained)}
    return len(exact), len(plain - exact)


def test_counts_are_those_of_a_double_loop():
    generator = random.Random(2)
    words = ["otters", "Otters", "eat", "fish,", "fish", "fish!", "rivers"]

    def texts(count, name):
        return [(f"{name}{n}", " ".join(generator.choices(words, k=2))) for n in range(count)]

    for _ in range(20):
        tested, trained = dict(texts(12, "t")), texts(25, "r")
        found = overlap(tested, trained)
        assert (found.exact, found.plain) == naive(tested, trained) and found.tested == 12
        assert (found.first is None) == (found.exact + found.plain == 0)
    assert overlap({}, []).first is None


def test_one_is_shown_a_literal_one_first():
    found = overlap({"a": "Otters?", "b": "planes"}, [("r1", "otters"), ("r2", "planes"), ("r3", "planes")])
    assert found.first == ("b", "r2", "planes")
    assert found.words("dev queries", "training queries") == (
        "2 of the 2 dev queries are training queries too (1 to the letter, 1 but for case, punctuation, white "
        "space and forms of characters; for instance 'b' and 'r2': 'planes')"
    )


def test_equal_queries_are_odd_and_equal_positives_are_said(capsys):
    console.configure("test")
    trained = Trained([("q1", "otters")], lambda: [("d1", "an otter")])
    note_leakage("dev", {"q1": "otters", "q2": "planes"}, lambda: {"d7": "An otter."}, trained)
    (said,) = reporting.notices()
    assert said.startswith("1 of the 2 dev queries are training queries too") and "for instance 'q1': 'otters'" in said
    assert "1 of the 1 dev positives are training positives too (0 to the letter, 1 but for" in capsys.readouterr().err
    assert trained.found == {
        "queries": {"tested": 2, "equal_to_the_letter": 1, "equal_in_plain_form": 0},
        "positives": {"tested": 1, "equal_to_the_letter": 0, "equal_in_plain_form": 1},
    }


@pytest.fixture
def split(toy):
    """The toy's queries q0 to q9 for training, q10 to q19 for dev, of which q10 asks what q3 asks, less tidily."""
    queries = [json.loads(line) for line in open(toy.queries)]
    queries[10]["text"] = queries[3]["text"].upper() + "?"
    queries[11]["text"] = queries[4]["text"]
    toy.queries = write_jsonl(toy.folder / "split.jsonl", queries)
    examples = [json.loads(line) for line in open(toy.examples)][:10]
    examples[5] |= {"positives": ["d5", "d12"], "negatives": ["d6", "d36"]}
    toy.examples = write_jsonl(toy.folder / "train.jsonl", examples)
    lines = (toy.folder / "qrels.tsv").read_text().splitlines()
    (toy.folder / "train.tsv").write_text("\n".join([*lines[:11], "q5\td12\t1"]) + "\n")
    (toy.folder / "dev.tsv").write_text("\n".join([lines[0], *lines[11:]]) + "\n")
    return toy


QUERIES = "2 of the 10 dev queries are training queries too (1 to the letter, 1 but for case"
POSITIVES = "1 of the 10 dev positives are training positives too (1 to the letter, 0 but for case"


def training(toy, tool, *words):
    short = ["--steps", 1, "--batch-queries", 4, "--precision", "fp32", "--queries", toy.queries]
    return [tool, *words, *short, "--dev-qrels", toy.folder / "dev.tsv", "-o", toy.folder / "out"]


@pytest.mark.parametrize("tool", ["train-contrastive", "train-star", "train-rem", "train-ranker", "train-adore"])
def test_a_training_reports_dev_queries_that_it_trains_on(split, encoder_folder, drtools, tool):
    words = ["--model", encoder_folder]
    if tool == "train-adore":
        made = split.folder / "vectors"
        encode = ["encode", "--model", encoder_folder, "--corpus", split.corpus, "--precision", "fp32", "-o", made]
        assert drtools(*encode).status == 0
        words += ["--vectors", made, "--qrels", split.folder / "train.tsv"]
    else:
        words += ["--corpus", split.corpus, "--examples", split.examples]
    if tool == "train-rem":
        words += ["--lora-rank", 4, "--adapter-size", 4]
    if tool == "train-ranker":
        run = "".join(f"q{n} Q0 d{n} 1 1.0 x\n" for n in range(20))
        (split.folder / "dev.run").write_text(run)
        words += ["--dev-run", split.folder / "dev.run"]
    outcome = drtools(*training(split, tool, *words))
    assert outcome.status == 0, outcome.err
    assert f"note: {QUERIES}" in outcome.err and "for instance 'q11' and 'q4'" in outcome.err, outcome.err
    assert POSITIVES in outcome.err and "'d12'" in outcome.err, outcome.err
    found = json.loads((split.folder / "out" / "manifest.json").read_text())["leakage"]
    assert found["queries"] == {"tested": 10, "equal_to_the_letter": 1, "equal_in_plain_form": 1}
    assert found["positives"]["equal_to_the_letter"] == 1


def test_train_lexical_reports_dev_queries_that_it_trains_on(split, encoder_folder, drtools):
    every = [json.loads(line) for line in open(split.folder / "examples.jsonl")]
    dev = write_jsonl(split.folder / "dev.jsonl", every[10:])
    words = ["--model", encoder_folder, "--corpus", split.corpus, "--examples", split.examples, "--dev-examples", dev]
    short = ["--steps", 1, "--batch-queries", 4, "--precision", "fp32", "--queries", split.queries]
    short += ["--max-query-tokens", 32, "--max-document-tokens", 32]
    outcome = drtools("train-lexical", *words, *short, "-o", split.folder / "out")
    assert outcome.status == 0 and f"note: {QUERIES}" in outcome.err, outcome.err


def test_a_training_with_dev_queries_of_its_own_reports_nothing(toy, encoder_folder, drtools):
    examples = [json.loads(line) for line in open(toy.examples)][:10]
    lines = (toy.folder / "qrels.tsv").read_text().splitlines()
    (toy.folder / "dev.tsv").write_text("\n".join([lines[0], *lines[11:]]) + "\n")
    toy.examples = write_jsonl(toy.folder / "train.jsonl", examples)
    words = ["--model", encoder_folder, "--corpus", toy.corpus, "--examples", toy.examples]
    outcome = drtools(*training(toy, "train-contrastive", *words), "--strict")
    assert outcome.status == 0 and "too (" not in outcome.err, outcome.err


def test_eval_reports_test_queries_that_were_trained_on(split, drtools):
    (split.folder / "a.run").write_text("".join(f"q{n} Q0 d{n} 1 1.0 x\n" for n in range(10, 20)))
    measure = ["eval", "--qrels", split.folder / "dev.tsv", split.folder / "a.run"]
    train = ["--train-qrels", split.folder / "train.tsv"]
    outcome = drtools(*measure, *train, "--queries", split.queries, "--corpus", split.corpus)
    assert outcome.status == 0 and f"note: {QUERIES.replace('dev', 'test')}" in outcome.err, outcome.err
    assert POSITIVES.replace("dev", "test") in outcome.err, outcome.err
    strict = drtools(*measure, *train, "--queries", split.queries, "--strict")
    assert strict.status == 2 and "test queries are training queries too" in strict.err, strict.err
    unknown = drtools(*measure, *train)
    assert unknown.status == 2 and "pass --queries" in unknown.err, unknown.err
    for words in (["--queries", split.queries], ["--corpus", split.corpus]):
        refused = drtools(*measure, *words)
        assert refused.status == 2 and f"{words[0]} needs " in refused.err, refused.err


def test_eval_compares_with_queries_alone_and_knows_what_a_run_was_made_of(split, encoder_folder, drtools):
    encode = ["--model", encoder_folder, "--corpus", split.corpus, "--precision", "fp32"]
    assert drtools("encode", *encode, "-o", split.folder / "vectors").status == 0
    search = ["--vectors", split.folder / "vectors", "--queries", split.queries, "--only", split.folder / "dev.tsv"]
    assert drtools("search", *search, "--precision", "fp32", "-o", split.folder / "a.run").status == 0
    measure = ["eval", "--qrels", split.folder / "dev.tsv", split.folder / "a.run"]
    outcome = drtools(*measure, "--train-qrels", split.folder / "train.tsv")
    assert outcome.status == 0 and QUERIES.replace("dev", "test") in outcome.err, outcome.err
    assert POSITIVES.replace("dev", "test") in outcome.err and "'d12': '" in outcome.err, outcome.err
    train = write_jsonl(split.folder / "log.jsonl", [json.loads(line) for line in open(split.queries)][:10])
    outcome = drtools(*measure, "--train-queries", train)
    assert outcome.status == 0 and QUERIES.replace("dev", "test") in outcome.err, outcome.err
    assert "positives" not in outcome.err, outcome.err


def trained_and_searched(split, encoder_folder, drtools):
    """Train on q0 to q9, and search q10 to q19 with the model."""
    folder, fp32 = split.folder, ("--precision", "fp32")
    words = ["--model", encoder_folder, "--corpus", split.corpus, "--examples", split.examples]
    short = ["--steps", 1, "--batch-queries", 4, *fp32, "--queries", split.queries]
    for command in (
        ["train-contrastive", *words, *short, "-o", folder / "model"],
        ["encode", "--model", folder / "model", "--corpus", split.corpus, *fp32, "-o", folder / "vectors"],
        ["index", "--vectors", folder / "vectors", "-o", folder / "faiss"],
        ["search", "--index", folder / "faiss", "--queries", split.queries, *fp32, "-o", folder / "a.run"],
    ):
        outcome = drtools(*command)
        assert outcome.status == 0, outcome.err
    return ["eval", "--qrels", folder / "dev.tsv", folder / "a.run"]


@pytest.mark.slow
def test_eval_knows_by_manifests_what_the_model_behind_a_run_was_trained_on(split, encoder_folder, drtools):
    measure = trained_and_searched(split, encoder_folder, drtools)
    said = f"2 of the 10 test queries are training queries of {split.folder / 'model'} too (1 to the letter, 1 but for"
    outcome = drtools(*measure)
    assert outcome.status == 0 and f"note: {said}" in outcome.err and "for instance 'q11' and 'q4'" in outcome.err
    strict = drtools(*measure, split.folder / "a.run", "--strict")
    assert strict.status == 2 and strict.err.count("training queries") == 1, strict.err
    own = drtools(*measure, "--train-qrels", split.folder / "train.tsv")
    assert own.err.count("training queries") == 1, "what is given is compared with, and that alone"
    clean = drtools("eval", "--qrels", write_qrels(split), split.folder / "a.run", "--strict")
    assert clean.status == 0, clean.err
    split.folder.joinpath("train.jsonl").write_text(open(split.examples).readline())
    changed = drtools(*measure, "--strict")
    assert changed.status == 0 and "its training queries are missing or have changed" in changed.err, changed.err


def write_qrels(split):
    """Write judgements of dev queries that nothing was trained on."""
    lines = (split.folder / "dev.tsv").read_text().splitlines()
    path = split.folder / "clean.tsv"
    path.write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if line.split("\t")[0] not in ("q10", "q11"))]) + "\n"
    )
    return path
