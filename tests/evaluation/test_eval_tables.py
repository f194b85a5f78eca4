"""Tables of eval in each form: the same numbers, readable by the programs for which they are made."""

import csv
import io
import json
import random
import re

import pytest
from scipy.stats import permutation_test, ttest_rel

ODD = "odd_name|50%.run"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs of 20 queries with one relevant document each; the last one's name has signs of every form."""
    draw = random.Random(8)
    (tmp_path / "qrels").write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(20)))
    for name, worst in {"bm25.run": 9, "dense.run": 5, ODD: 2}.items():
        lines = []
        for n in range(20):
            hits = [f"x{place}" for place in range(9)]
            hits.insert(draw.randrange(worst), f"d{n}")
            lines += [f"q{n} Q0 {document} {place} {20 - place} x\n" for place, document in enumerate(hits, 1)]
        (tmp_path / name).write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    return ["eval", "--qrels", "qrels", "bm25.run", "dense.run", ODD, "--measures", "RR@10,P@1"]


def as_json(drtools, runs, *words):
    return json.loads(drtools(*runs, *words, "--json").out)


@pytest.mark.parametrize(("form", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_columns_hold_the_numbers_of_json(runs, drtools, form, delimiter):
    expected = as_json(drtools, runs, "--against", "bm25.run", "--against", "dense.run")
    words = ["--against", "bm25.run", "--against", "dense.run", "--format", form, "--digits", "all"]
    outcome = drtools(*runs, *words)
    assert outcome.status == 0, outcome.err
    rows = list(csv.DictReader(io.StringIO(outcome.out), delimiter=delimiter))
    assert [row["run"] for row in rows] == ["bm25.run", "dense.run", ODD]
    tested = 0
    for row, record in zip(rows, expected["runs"], strict=True):
        assert {name: float(row[name]) for name in ("RR@10", "P@1")} == record["measures"]
        for baseline in ("bm25.run", "dense.run"):
            tests = record.get("against", {}).get(baseline)
            cells = [
                row[f"RR@10 {words} {baseline}"]
                for words in ("difference from", "p against", "Holm-corrected p against")
            ]
            if tests is None:
                assert cells == ["", "", ""]
                continue
            tested += 1
            assert list(map(float, cells)) == [tests["RR@10"][key] for key in ("difference", "p", "p_holm")]
    assert tested == 3


def test_digits(runs, drtools):
    value = as_json(drtools, runs)["runs"][0]["measures"]["RR@10"]
    for digits, shown in {"0": f"{value:.0f}", "2": f"{value:.2f}", "12": f"{value:.12f}", "all": repr(value)}.items():
        for form in ("table", "csv", "markdown", "latex"):
            assert shown in drtools(*runs, "--format", form, "--digits", digits).out
    assert f"{value:.4f}" in drtools(*runs).out and f"{value:.4f}" in drtools(*runs, "--format", "csv").out


def test_markdown_and_latex_mark_what_differs_and_the_best(runs, drtools):
    (first, _, last) = as_json(drtools, runs)["runs"]
    value, p = last["measures"]["RR@10"], last["against_first"]["RR@10"]["p_holm"]
    assert p < 0.05 and value > first["measures"]["RR@10"]
    lines = drtools(*runs, "--format", "markdown").out.splitlines()
    assert lines[:2] == ["| run | RR@10 | P@1 |", "|---|---:|---:|"]
    assert lines[4].startswith(f"| odd\\_name\\|50%.run | **{value:.4f}** \\* | **") and "judged queries" in lines[6]
    latex = drtools(*runs, "--format", "latex").out.splitlines()
    assert latex[1:4] == [r"\begin{tabular}{lrr}", r"\toprule", r"run & RR@10 & P@1 \\"]
    assert latex[7].startswith(rf"odd\_name|50\%.run & \textbf{{{value:.4f}}}$^{{*}}$ & ")
    assert latex[8:10] == [r"\bottomrule", r"\end{tabular}"] and latex[10].startswith("% 20 judged queries; * differs")
    assert all(line.count("&") == 2 for line in latex[3:8] if "&" in line)


@pytest.mark.parametrize("form", ["csv", "markdown", "latex", "tsv"])
def test_values_by_query_in_each_form(runs, drtools, form):
    expected = as_json(drtools, runs, "--per-query")["runs"][1]["per_query"]["RR@10"]["q3"]
    out = drtools(*runs, "--per-query", "--format", form).out
    lines = [line for line in out.splitlines() if re.search(r"dense\.run\W+RR@10\W+q3\W", line)]
    assert len(lines) == 1 and f"{expected:.4f}" in lines[0]
    assert out.count("\n") >= 3 * 2 * 21


def test_a_file_has_the_form_and_its_manifest_the_measures(runs, drtools, tmp_path):
    printed = drtools(*runs).out
    assert drtools(*runs, "--format", "latex", "-o", "table.tex").out == printed, "the table is printed all the same"
    assert (tmp_path / "table.tex").read_text() == drtools(*runs, "--format", "latex").out
    assert drtools(*runs, "-o", "measures.json").status == 0
    assert (tmp_path / "measures.json").read_text() == drtools(*runs, "--json").out
    manifests = [
        json.loads((tmp_path / f"{name}.manifest.json").read_text()) for name in ("table.tex", "measures.json")
    ]
    assert manifests[0]["measures"] == manifests[1]["measures"] == as_json(drtools, runs)["runs"][-1]["measures"]
    again = drtools(*runs, "--format", "csv", "-o", "table.tex")
    assert again.status == 2 and "--format: latex then, csv now" in again.err, again.err


def test_a_randomization_test_takes_the_place_of_the_t_test(runs, drtools):
    found = as_json(drtools, runs, "--test", "randomization", "--per-query")
    assert found["test"] == "two-tailed paired randomization test, 100,000 samples"
    first, other = (list(found["runs"][at]["per_query"]["RR@10"].values()) for at in (0, 1))
    theirs = permutation_test(
        (other, first),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        n_resamples=40_000,
        vectorized=True,
    )
    mine = found["runs"][1]["against_first"]["RR@10"]["p"]
    assert mine == pytest.approx(theirs.pvalue, abs=0.01)
    assert mine != as_json(drtools, runs)["runs"][1]["against_first"]["RR@10"]["p"]
    assert as_json(drtools, runs)["runs"][1]["against_first"]["RR@10"]["p"] == pytest.approx(
        ttest_rel(first, other).pvalue
    )
    assert "paired randomization test, 100,000 samples" in drtools(*runs, "--test", "randomization").out


def test_gates_and_floors_take_every_measure(runs, drtools):
    outcome = drtools(*runs, "--gate", "ERR@10>=-0.001", "--floor", "RBP(p=0.5,rel=1)>=0.01", "--floor", "map>=0.1")
    assert outcome.status == 0 and "floor RBP(p=0.5,rel=1)>=0.01 holds" in outcome.err, outcome.err
    assert "floor map>=0.1 holds" in outcome.err and "ERR@10" in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "--format", "csv"], "--json and --format csv ask for two forms"),
        (["--digits", "many"], "--digits many: expected a number from 0 to 17, or all"),
        (["--digits", "18"], "expected a number from 0 to 17"),
        (["--json", "--digits", "3"], "does not apply to JSON"),
        (["--format", "xml"], "xml"),
    ],
)
def test_forms_that_cannot_be_are_refused(runs, drtools, words, said):
    outcome = drtools(*runs, *words)
    assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err


def test_runs_and_judgements_of_others_measure_the_same(runs, drtools, tmp_path):
    nested: dict[str, dict[str, float]] = {}
    for line in (tmp_path / "dense.run").read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        nested.setdefault(query, {})[document] = float(score)
    (tmp_path / "dense.json").write_text(json.dumps(nested))
    (tmp_path / "qrels.json").write_text(json.dumps({f"q{n}": {f"d{n}": 1} for n in range(20)}))
    expected = as_json(drtools, runs)["runs"][1]["measures"]
    found = json.loads(drtools("eval", "--qrels", "qrels.json", "dense.json", "--measures", "RR@10,P@1", "--json").out)
    assert found["runs"][0]["measures"] == expected
