"""What eval and its neighbours refuse or count instead of a wrong number."""

import pytest


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
    assert outcome.status == 0 and "1 of the 2 queries of" in outcome.err and "1 judged queries" in outcome.out, (
        outcome.err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measures", ","], "names no measure"),
        (["--measures", "R@99999999999999999999999"], "is not known"),
        (["--corpus", __file__], "--corpus: for --answers"),
        (["--answer-match", "regex"], "--answer-match: for --answers"),
        (["--alpha", "7"], "--alpha"),
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
        (["--normalization", "min-max"], "--normalization is for --method linear"),
        (["--missing", "zero"], "--missing is for --method linear"),
        (["--method", "linear", "--k", "5"], "--k is for --method rrf"),
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
