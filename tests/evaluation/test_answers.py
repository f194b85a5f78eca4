"""Whether a text holds an answer: worked examples after DPR's own rules, and Success@k by a count by hand."""

import json

import pytest
from conftest import write_jsonl

from drtools.errors import InputError
from drtools.evaluation.answers import regex_matcher, string_matcher, words_of
from drtools.formats.answers import read_answers


def test_words_are_runs_of_letters_and_numbers_or_single_signs():
    assert words_of("The U.S.A., in 1990's 3.5%") == [
        "the",
        "u",
        ".",
        "s",
        ".",
        "a",
        ".",
        ",",
        "in",
        "1990",
        "'",
        "s",
        "3",
        ".",
        "5",
        "%",
    ]
    assert words_of("foo_bar\u200b  x") == ["foo", "_", "bar", "x"]
    assert words_of("Caf\u00e9") == words_of("Cafe\u0301") == ["cafe\u0301"], (
        "a mark belongs to its letter, and is kept"
    )
    assert words_of("東京は") == ["東京は"]


@pytest.mark.parametrize(
    ("answers", "text", "holds"),
    [
        (["Paris"], "It is PARIS, France.", True),
        (["Paris"], "A Parisian came.", False),
        (["new york"], "in New\nYork city", True),
        (["new york"], "new, York", False),
        (["york new"], "new york", False),
        (["U.S."], "the U.S. army", True),
        (["U.S."], "the U. S . army", True),
        (["U.S."], "the US army", False),
        (["14 May 1948"], "On 14 May 1948 it", True),
        (["Beyonce"], "Beyoncé sang", False),
        (["Beyoncé"], "Beyonce\u0301 sang", True),
        (["no", "yes"], "Yes!", True),
        (["\u200b"], "anything", False),
        (["fox fox hare"], "fox fox fox hare", True),
    ],
)
def test_an_answer_is_a_row_of_words(answers, text, holds):
    assert string_matcher(answers)(text) == holds


def test_regular_expressions_are_searched_for_whatever_their_case():
    assert regex_matcher([r"19(45|46)", "x"])("in 1946,")
    assert regex_matcher([r"^hare"])("a fox\nHARE") and not regex_matcher([r"^hare$"])("a hare")
    with pytest.raises(InputError, match="not a regular expression"):
        regex_matcher(["(a"])


def test_both_forms_of_files(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"_id": "q1", "answers": ["a", "b"]}, {"_id": 2, "answers": ["c"]}])
    assert read_answers(tmp_path / "a.jsonl") == {"q1": ["a", "b"], "2": ["c"]}
    (tmp_path / "nq.csv").write_text('who sang it\t[\'Ann\', "O\'Neil"]\nwhere\t["here"]\n')
    assert read_answers(tmp_path / "nq.csv") == {"0": ["Ann", "O'Neil"], "1": ["here"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"_id": "q1"}\n', ":1: no list of answers"),
        ('{"_id": "q1", "answers": []}\n', ":1: no list"),
        ('{"_id": "q1", "answers": ["a", " "]}\n', ":1: no list"),
        ("who\t['a']\nwho else\t[a]\n", ":2: no list"),
        ("who\t__import__('os')\n", ":1: no list"),
        ("who\n", ":1: no list"),
        ("", "no answers"),
        ('{"_id": "q1", "answers": ["a"]}\n{"_id": "q1", "answers": ["a"]}\n', ":2: the query id 'q1' occurs twice"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, text, words):
    (tmp_path / "answers").write_text(text)
    with pytest.raises(InputError) as found:
        read_answers(tmp_path / "answers")
    assert words in str(found.value)


@pytest.fixture
def asked(tmp_path):
    """Three questions, a corpus and two runs."""
    write_jsonl(
        tmp_path / "corpus.jsonl",
        [
            {"_id": "d1", "title": "Ann", "text": "She sang it."},
            {"_id": "d2", "title": "", "text": "It was Ann who sang."},
            {"_id": "d3", "title": "", "text": "Nothing."},
            {"_id": "d4", "title": "", "text": "In May 1948, in London."},
        ],
    )
    write_jsonl(
        tmp_path / "answers.jsonl",
        [
            {"_id": "q1", "answers": ["ann"]},
            {"_id": "q2", "answers": ["london", "1948"]},
            {"_id": "q3", "answers": ["never"]},
        ],
    )
    (tmp_path / "a.run").write_text("q1 Q0 d1 1 3.0 a\nq1 Q0 d2 2 2.0 a\nq2 Q0 d4 1 2.0 a\nq3 Q0 d3 1 1.0 a\n")
    (tmp_path / "b.run").write_text("q1 Q0 d3 1 3.0 b\nq1 Q0 d1 2 2.0 b\nq1 Q0 d2 3 1.0 b\nq2 Q0 d9 1 2.0 b\n")
    return tmp_path


def test_success_is_counted_over_all_questions(asked, drtools):
    words = [
        "eval",
        "--answers",
        asked / "answers.jsonl",
        "--corpus",
        asked / "corpus.jsonl",
        asked / "a.run",
        asked / "b.run",
    ]
    done = drtools(*words, "--measures", "Success@1,Success@2,Success@3,RR@10", "--json")
    assert done.status == 0, done.err
    first, second = [run["measures"] for run in json.loads(done.out)["runs"]]
    assert first == pytest.approx(
        {"Success@1": 1 / 3, "Success@2": 2 / 3, "Success@3": 2 / 3, "RR@10": (1 / 2 + 1) / 3}
    ), "the title does not count"
    assert second == pytest.approx({"Success@1": 0, "Success@2": 0, "Success@3": 1 / 3, "RR@10": (1 / 3) / 3})
    assert "1 listed document is not in the corpus" in done.err and "lacks 1 of the 3 judged" in done.err
    assert "Success@20" in drtools(*words).out
    (asked / "answers.jsonl").write_text(json.dumps({"_id": "q2", "answers": ["(may|june) 19.8"]}) + "\n")
    done = drtools(*words[:-1], "--answer-match", "regex", "--measures", "Success@1", "--json")
    assert json.loads(done.out)["runs"][0]["measures"] == {"Success@1": 1.0}


def test_what_cannot_be_meant_is_said(asked, drtools):
    words = ["eval", "--answers", asked / "answers.jsonl", asked / "a.run"]
    assert "with the --corpus" in drtools(*words).err
    assert (
        "measure nDCG@10 needs all relevant documents"
        in drtools(*words, "--corpus", asked / "corpus.jsonl", "--measures", "nDCG@10").err
    )
    assert "pass either --qrels" in drtools("eval", asked / "a.run").err


def test_a_fusion_is_tuned_on_answers_as_on_judgements(asked, drtools):
    (asked / "qrels.tsv").write_text("q1\td2\t1\nq2\td4\t1\nq3\td1\t0\n")
    (asked / "c.run").write_text("q1 Q0 d2 1 5.0 c\nq1 Q0 d1 2 1.0 c\nq3 Q0 d3 1 1.0 c\n")
    runs = ["fuse", asked / "a.run", asked / "c.run", "--method", "linear", "--tune-measure", "RR@10"]
    for out, words in {
        "answers": ["--tune-answers", asked / "answers.jsonl", "--corpus", asked / "corpus.jsonl"],
        "qrels": ["--tune", asked / "qrels.tsv"],
    }.items():
        done = drtools(*runs, *words, "-o", asked / out)
        assert done.status == 0, done.err
    tried = [json.loads((asked / f"{out}.manifest.json").read_text())["tried"] for out in ("answers", "qrels")]
    assert tried[0] == tried[1] and len({value for _, value in tried[0]}) > 1
    assert "pass either --tune" in drtools(*runs, "--tune-answers", asked / "answers.jsonl").err


def test_a_fusion_is_tuned_on_patterns_as_eval_matches_them(asked, drtools):
    """CuratedTREC's answers are regular expressions: as words they are found nowhere."""
    write_jsonl(
        asked / "patterns.jsonl", [{"_id": "q1", "answers": ["a.n who"]}, {"_id": "q2", "answers": ["May 19.8"]}]
    )
    (asked / "qrels.tsv").write_text("q1\td2\t1\nq2\td4\t1\n")
    (asked / "c.run").write_text("q1 Q0 d2 1 5.0 c\nq1 Q0 d1 2 1.0 c\n")
    runs = ["fuse", asked / "a.run", asked / "c.run", "--method", "linear", "--tune-measure", "RR@10"]
    answered = ["--tune-answers", asked / "patterns.jsonl", "--corpus", asked / "corpus.jsonl"]
    tried = {}
    for out, words in {
        "regex": [*answered, "--answer-match", "regex"],
        "string": answered,
        "qrels": ["--tune", asked / "qrels.tsv"],
    }.items():
        done = drtools(*runs, *words, "-o", asked / out)
        assert done.status == 0, done.err
        tried[out] = json.loads((asked / f"{out}.manifest.json").read_text())["tried"]
    assert tried["regex"] == tried["qrels"] and len({value for _, value in tried["regex"]}) > 1
    assert {value for _, value in tried["string"]} == {0.0}
    done = drtools(*runs, "--tune", asked / "qrels.tsv", "--answer-match", "regex", "-o", asked / "other")
    assert done.status == 2 and "--answer-match needs --tune-answers" in done.err


def test_a_fusion_is_not_tuned_on_queries_that_the_runs_lack(asked, drtools):
    runs = ["fuse", asked / "a.run", asked / "b.run", "--method", "linear", "-o", asked / "fused.run"]
    (asked / "qrels.tsv").write_text("x1\td2\t1\n")
    done = drtools(*runs, "--tune", asked / "qrels.tsv")
    assert done.status == 2 and "judges none of the queries of" in done.err and not (asked / "fused.run").exists()
    (asked / "qrels.tsv").write_text("x1\td2\t1\nq1\td2\t1\n")
    done = drtools(*runs, "--tune", asked / "qrels.tsv")
    assert done.status == 0 and "1 of the 2 queries that" in done.err and "in neither run" in done.err
    for flag, value in {"--tune-on": "RR@10", "--tune-runs": asked / "a.run"}.items():
        done = drtools(*runs, *([flag, value] * (2 if flag == "--tune-runs" else 1)), "--overwrite")
        assert done.status == 2 and f"{flag} needs --tune" in done.err


def test_answers_are_no_judgements_of_what_nobody_listed(asked, drtools):
    answered = [asked / "answers.jsonl", "--corpus", asked / "corpus.jsonl"]
    done = drtools("eval", asked / "a.run", "--answers", *answered, "--min-rel", 2)
    assert done.status == 2 and "--min-rel 2 with --answers" in done.err
    done = drtools("eval", asked / "a.run", "--answers", *answered, "--measures", "Success(rel=2)@5")
    assert done.status == 2 and "Success(rel=2)@5 with answers" in done.err
    assert drtools("eval", asked / "a.run", "--answers", *answered, "--measures", "Success(rel=1)@5").status == 0
    done = drtools(
        "fuse",
        asked / "a.run",
        asked / "b.run",
        "--method",
        "linear",
        "--tune-answers",
        *answered,
        "--tune-measure",
        "R@100",
        "-o",
        asked / "fused.run",
    )
    assert done.status == 2 and "measure R@100 needs all relevant documents" in done.err


def test_dprs_answers_as_csv_writes_them(tmp_path):
    (tmp_path / "qas.csv").write_text('who guards gold\t"[""Smaug\'s""]"\nwhere\t[\'Erebor\']\n')
    assert read_answers(tmp_path / "qas.csv") == {"0": ["Smaug's"], "1": ["Erebor"]}
    (tmp_path / "deep.csv").write_text("who\t" + "-" * 100_000 + "1\n")
    with pytest.raises(InputError, match=r"deep.csv:1: no list of answers"):
        read_answers(tmp_path / "deep.csv")
