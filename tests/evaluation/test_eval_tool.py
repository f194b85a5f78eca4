"""What eval and its neighbours refuse or count instead of a wrong number."""

import json
import random
from pathlib import Path

import pytest
from scipy.stats import ttest_rel


@pytest.fixture
def measured(tmp_path):
    (tmp_path / "qrels").write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(4)))
    (tmp_path / "old.run").write_text("".join(f"q{n} Q0 d{n} 1 9 x\n" for n in range(4)))
    (tmp_path / "new.run").write_text("".join(f"q{n} Q0 z 1 9 x\nq{n} Q0 d{n} 2 8 x\n" for n in range(4)))
    return tmp_path


@pytest.mark.parametrize(
    "measures", ["nDCG@10,nDCG@10,RR@10,R@100", "nDCG@10,nDCG@10,RR@10", "nDCG@10,rr@10,RR@10", "R@100"]
)
def test_a_gate_compares_its_own_measure_wherever_it_stands(measured, drtools, measures):
    outcome = drtools(
        "eval",
        "--qrels",
        measured / "qrels",
        measured / "old.run",
        measured / "new.run",
        "--measures",
        measures,
        "--gate",
        "RR@10>=-0.01",
    )
    assert outcome.status == 3 and "difference of -0.5000" in outcome.err, outcome.err


def test_judged_queries_that_only_names_and_nobody_judges_are_counted(measured, drtools):
    (measured / "only").write_text("q1 0 d1 1\nq9 0 d9 1\n")
    outcome = drtools("eval", "--qrels", measured / "qrels", measured / "old.run", "--only", measured / "only")
    assert outcome.status == 0 and "1 of the 2 queries of" in outcome.err and "1 judged query" in outcome.out, (
        outcome.err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measures", ","], "expected measures separated by commas"),
        (["--measures", "R@99999999999999999999999"], "is not known"),
        (["--corpus", __file__], "--corpus needs --answers"),
        (["--answer-match", "regex"], "--answer-match needs --answers"),
        (["--alpha", "7"], "--alpha"),
        (["--floor", "nDCG@10>0.3"], "--floor nDCG@10>0.3: expected MEASURE>=VALUE"),
        (["--floor", "nDCG@10>=30"], "30 is not a value of a measure, expected a number from 0 to 1"),
        (["--floor", "nDGC@10>=0.3"], "measure 'nDGC@10' is not known"),
    ],
)
def test_what_means_nothing_is_refused(measured, drtools, words, said):
    outcome = drtools("eval", "--qrels", measured / "qrels", measured / "old.run", *words)
    assert outcome.status == 2 and said in outcome.err and "internal" not in outcome.err, outcome.err


@pytest.mark.parametrize("grade", ["3000000000", "99999999999999999999", "1_0", "١٢"])
def test_a_column_that_is_no_grade_is_named_with_its_line(measured, drtools, grade):
    (measured / "odd").write_text(f"q0 0 d0 1\nq1 0 d1 {grade}\n")
    outcome = drtools("eval", "--qrels", measured / "odd", measured / "old.run")
    assert outcome.status == 2 and "odd:2: found" in outcome.err and "grade" in outcome.err, outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--normalization", "min-max"], "--normalization needs --method linear"),
        (["--missing", "zero"], "--missing needs --method linear"),
        (["--method", "linear", "--k", "5"], "--k needs --method rrf"),
        (["--method", "linear", "--weights", "nan,1"], "expected finite numbers"),
    ],
)
def test_a_fusion_takes_only_what_its_method_uses(measured, drtools, words, said):
    outcome = drtools("fuse", measured / "old.run", measured / "new.run", *words, "-o", measured / "out")
    assert outcome.status == 2 and said in outcome.err, outcome.err


def test_infinite_scores_have_ranks_but_no_sum(measured, drtools):
    (measured / "inf.run").write_text("q0 Q0 d0 1 inf x\nq0 Q0 d1 2 1 x\n")
    refused = drtools("fuse", measured / "old.run", measured / "inf.run", "--method", "linear", "-o", measured / "out")
    assert refused.status == 2 and "inf.run: query q0 has an infinite score" in refused.err, refused.err
    assert drtools("fuse", measured / "old.run", measured / "inf.run", "-o", measured / "out").status == 0
    refused = drtools(
        "analyze", measured / "inf.run", "--qrels", measured / "qrels", "--margins", "-o", measured / "margins"
    )
    assert refused.status == 2 and "infinite score" in refused.err, refused.err


@pytest.fixture
def four(tmp_path):
    """Four runs of 40 queries, each with one relevant document at a random rank."""
    draw = random.Random(6)
    (tmp_path / "qrels").write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(40)))
    for name, worst in {"bm25": 10, "dense": 7, "star": 4, "best": 2}.items():
        lines = []
        for n in range(40):
            hits = [f"x{place}" for place in range(9)]
            hits.insert(draw.randrange(worst), f"d{n}")
            lines += [f"q{n} Q0 {document} {place} {20 - place} x\n" for place, document in enumerate(hits, 1)]
        (tmp_path / f"{name}.run").write_text("".join(lines))
    return tmp_path


def by_hand(folder, pairs):
    """Return {pair: (p, Holm's p)} of RR@10 by scipy and by the definition: m x the smallest, (m - 1) x the next."""
    values = {}
    for name in {name for pair in pairs for name in pair}:
        ranks = {}
        for line in (folder / f"{name}.run").read_text().splitlines():
            query, _, document, rank, *_ = line.split()
            ranks |= {query: 1 / int(rank)} if document[0] == "d" else {}
        values[name] = [ranks[f"q{n}"] for n in range(40)]
    raw = {pair: float(ttest_rel(*(values[name] for name in pair)).pvalue) for pair in pairs}
    holm, highest = {}, 0.0
    for place, pair in enumerate(sorted(pairs, key=raw.__getitem__)):
        highest = max(highest, (len(pairs) - place) * raw[pair])
        holm[pair] = min(1.0, highest)
    return {pair: (raw[pair], holm[pair]) for pair in pairs}


def test_each_run_is_tested_against_each_named_baseline(four, drtools):
    runs = [four / f"{name}.run" for name in ("bm25", "dense", "star", "best")]
    words = ["eval", "--qrels", four / "qrels", *runs, "--measures", "RR@10"]
    named = ["--baseline", four / "dense.run", "--baseline", four / "bm25.run"]
    outcome = drtools(*words, *named, "--json")
    assert outcome.status == 0, outcome.err
    found = {
        (Path(baseline).stem, Path(row["run"]).stem): (tests["RR@10"]["p"], tests["RR@10"]["p_holm"])
        for row in json.loads(outcome.out)["runs"]
        for baseline, tests in row.get("against", {}).items()
    }
    pairs = [(one, other) for one in ("dense", "bm25") for other in ("star", "best")] + [("dense", "bm25")]
    expected = by_hand(four, pairs)
    assert found.keys() == expected.keys()
    for pair, values in expected.items():
        assert found[pair] == pytest.approx(values, rel=1e-6)
    table = drtools(*words, *named, "--alpha", "0.05").out
    for (baseline, _), values in expected.items():
        assert f"p against {four / baseline}.run" in table
        assert all(f"{value:.4f}" in table for value in values)
    assert f"a differs from {four / 'dense.run'}, b differs from {four / 'bm25.run'}" in table
    assert "Holm-corrected over 5 comparisons" in table


def test_the_uncorrected_p_stands_beside_holms(four, drtools):
    runs = [four / f"{name}.run" for name in ("bm25", "dense", "star", "best")]
    expected = by_hand(four, [("bm25", name) for name in ("dense", "star", "best")])
    table = drtools("eval", "--qrels", four / "qrels", *runs, "--measures", "RR@10").out.splitlines()
    starts = [number for number, line in enumerate(table) if "p against the first" in line]
    assert len(starts) == 3
    for number, values in zip(starts, expected.values(), strict=True):
        assert [float(line.split()[-1]) for line in table[number : number + 2]] == pytest.approx(values, abs=5e-5)
        assert table[number + 1].strip().startswith("Holm-corrected")
        assert ("*" in table[number - 1]) == (values[1] < 0.05)
    alone = drtools("eval", "--qrels", four / "qrels", *runs[:2], "--measures", "RR@10").out
    assert "Holm" not in alone and alone.count("p against the first") == 1, "one comparison needs no correction"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["old.run", "new.run", "--baseline", "other.run"], "not one of the runs"),
        (["old.run", "--baseline", "old.run"], "the only run"),
        (["old.run", "new.run", "--baseline", "new.run", "--gate", "RR@10>=0"], "put the new run last"),
    ],
)
def test_a_baseline_that_cannot_be_meant_is_refused(measured, drtools, monkeypatch, words, said):
    monkeypatch.chdir(measured)
    (measured / "other.run").write_text((measured / "old.run").read_text())
    outcome = drtools("eval", "--qrels", "qrels", *words)
    assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err


def test_a_gate_holds_against_every_baseline(measured, drtools, monkeypatch):
    monkeypatch.chdir(measured)
    (measured / "worse.run").write_text("".join(f"q{n} Q0 z 1 9 x\n" for n in range(4)))
    words = ["eval", "--qrels", "qrels", "worse.run", "old.run", "new.run", "--gate", "RR(rel=1)@10>=-0.01"]
    assert drtools(*words, "--baseline", "worse.run").status == 0
    outcome = drtools(*words, "--baseline", "worse.run", "--baseline", "old.run")
    assert outcome.status == 3 and "old.run has 1.0000, a difference of -0.5000" in outcome.err, outcome.err


def test_a_floor_holds_for_the_last_run_alone_or_beside_others(measured, drtools, monkeypatch):
    monkeypatch.chdir(measured)
    words = ["eval", "--qrels", "qrels", "new.run", "--floor"]  # RR@10 is 0.5, R@5 is 1
    held = drtools(*words, "rr@10>=0.5", "--floor", "R@5>=0.9")
    assert held.status == 0 and "floor rr@10>=0.5 holds: 0.5000" in held.err and "R@5" in held.out, held.err
    assert "floor R@5>=0.9 holds: 1.0000" in held.err
    for runs in (["new.run"], ["old.run", "new.run"]):
        words[3:-1] = runs
        refused = drtools(*words, "RR@10>=0.51", "--floor", "R@5>=0.9", "--floor", "P@1>=0.1")
        assert refused.status == 3 and "RR@10" in refused.out, refused.err
        said = "floor RR@10>=0.51: the last run has 0.5000; floor P@1>=0.1: the last run has 0.0000"
        assert refused.err.splitlines()[-1].endswith(said), refused.err
    assert drtools("eval", "--qrels", "qrels", "new.run", "old.run", "--floor", "RR@10>=1").status == 0


def test_a_gate_and_a_floor_go_together(measured, drtools, monkeypatch):
    monkeypatch.chdir(measured)
    words = ["eval", "--qrels", "qrels", "old.run", "new.run", "--gate", "RR@10>=-0.5", "--floor"]
    assert drtools(*words, "nDCG@10>=0.6").status == 0
    refused = drtools(*words, "nDCG@10>=0.7")
    assert refused.status == 3 and "gate RR@10>=-0.5 holds" in refused.err and "floor nDCG@10>=0.7:" in refused.err
    words[6] = "RR@10>=-0.4"
    refused = drtools(*words, "nDCG@10>=0.6")
    assert refused.status == 3 and "gate RR@10>=-0.4:" in refused.err


def judged_apart(folder, first, second):
    """Two runs of ten queries, of whose first ten documents so many are judged."""
    (folder / "judged").write_text("".join(f"q{n} 0 j{d} {d % 2}\n" for n in range(10) for d in range(10)))
    for name, count in (("a.run", first), ("b.run", second)):
        ids = [f"j{d}" if d < count else f"x{d}" for d in range(10)]
        lines = (f"q{n} Q0 {each} {at} {99 - at} x\n" for n in range(10) for at, each in enumerate(ids))
        (folder / name).write_text("".join(lines))
    return ["eval", "--qrels", folder / "judged", folder / "a.run", folder / "b.run"]


def test_runs_of_whose_first_hits_very_different_shares_are_judged_are_noted(tmp_path, drtools):
    outcome = drtools(*judged_apart(tmp_path, 9, 7))
    assert outcome.status == 0 and "note: Judged@10 is 0.70 in" in outcome.err, outcome.err
    assert "b.run and 0.90 in" in outcome.err and "a.run; documents that are not judged count" in outcome.err, (
        outcome.err
    )
    assert drtools(*judged_apart(tmp_path, 9, 7), "--strict").status == 2
    near = drtools(*judged_apart(tmp_path, 9, 8), "--strict")  # no more than 0.1 apart
    assert near.status == 0 and "Judged@10" not in near.err, near.err
    alone = drtools(*judged_apart(tmp_path, 9, 2)[:-1], "--strict")
    assert alone.status == 0, alone.err


def test_documents_of_other_ids_are_shown_beside_the_judged_ones(tmp_path, drtools):
    # castorini/pyserini#1348: 0 alone would mislead
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\t007\t1\n1\t008\t1\n")
    (tmp_path / "r.run").write_text("1 Q0 7 1 9 x\n1 Q0 8 2 8 x\n")
    outcome = drtools("eval", "--qrels", tmp_path / "qrels.tsv", tmp_path / "r.run")
    assert outcome.status == 0 and "judges none of its documents (for instance '007'; " in outcome.err
    assert "r.run has '7')" in outcome.err, outcome.err
    strict = drtools("eval", "--strict", "--qrels", tmp_path / "qrels.tsv", tmp_path / "r.run")
    assert strict.status == 2 and "'007'" in strict.err, strict.err


def test_queries_of_other_ids_are_shown_beside_the_judged_ones(measured, drtools):
    (measured / "upper").write_text("".join(f"Q{n} 0 d{n} 1\n" for n in range(4)))
    outcome = drtools("eval", "--qrels", measured / "upper", measured / "old.run")
    assert outcome.status == 2 and "(for instance 'Q0'; " in outcome.err and "old.run has 'q0')" in outcome.err
    (measured / "half").write_text("q0 0 d0 1\nQ1 0 d1 1\n")
    outcome = drtools("eval", "--qrels", measured / "half", measured / "old.run")
    assert outcome.status == 0 and "lacks 1 of the 2 judged queries; they count 0, and 3 of its 4" in outcome.err
    assert "(for instance 'Q1'; " in outcome.err and "has 'q1')" in outcome.err, outcome.err


def test_queries_that_nobody_judges_are_said_and_are_not_odd(measured, drtools):
    (measured / "some").write_text("q0 0 d0 1\n")
    words = ["eval", "--strict", "--qrels", measured / "some", measured / "old.run"]
    outcome = drtools(*words)
    assert outcome.status == 0 and "3 of its 4 queries are not judged (for instance 'q1')" in outcome.err, outcome.err
    assert "not judged" not in drtools(*words, "--only", measured / "some").err


def test_shifted_columns_of_judgements_are_noticed(measured, drtools):
    (measured / "shifted").write_text("".join(f"q{n} d{n} 1 0\n" for n in range(4)))
    outcome = drtools("eval", "--qrels", measured / "shifted", measured / "old.run")
    assert outcome.status == 0 and "no judgement has grade 1 or more, so nothing is relevant" in outcome.err
    assert "judges none of its documents (for instance '1'" in outcome.err, outcome.err
    assert outcome.err.count("are the columns of the judgements query, 0, document, grade?") == 2, outcome.err
    assert drtools("eval", "--strict", "--qrels", measured / "shifted", measured / "old.run").status == 2
