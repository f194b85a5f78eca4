"""Measures that are published with a version: the history has them, and a fall or fewer judgements is refused."""

import json
from pathlib import Path

import pytest
from test_publish_history import check_picture, lines, model, vectors

from drtools.outputs.versions import current_version, versions_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_run(name: str, hits: dict[str, int], depth: int = 10) -> Path:
    """Write a run in which each query's relevant document has a rank; at 0 it is not found."""
    rows = []
    for query, place in hits.items():
        documents = [f"other{rank}" for rank in range(1, depth + 1)]
        if place:
            documents[place - 1] = f"d-{query}"
        rows += [f"{query} Q0 {document} {rank} {100 - rank} x" for rank, document in enumerate(documents, start=1)]
    Path(name).write_text("\n".join(rows) + "\n")
    return Path(name)


def evaluated(drtools, name: str, ranks: dict[str, int]) -> Path:
    """Write measures of a run with these ranks, judged on these queries; RR@10 is the mean of 1 / rank."""
    qrels = Path(f"{name}.tsv")
    qrels.write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{query}\td-{query}\t1\n" for query in ranks))
    words = ["--qrels", qrels, write_run(f"{name}.run", ranks), "--measures", "RR@10,R@10", "-o", f"{name}.json"]
    outcome = drtools("eval", *words)
    assert outcome.status == 0, outcome.err
    assert "RR@10" in outcome.out
    return Path(f"{name}.json")


def test_eval_writes_what_it_measured(drtools):
    path = evaluated(drtools, "m", {"q1": 1, "q2": 4, "q3": 0})
    record = json.loads(Path("m.json.manifest.json").read_text())
    assert record["kind"] == "measures" and (record["queries"], record["judgements"]) == (3, 3)
    assert record["measures"] == pytest.approx({"RR@10": (1 + 0.25) / 3, "R@10": 2 / 3})
    (row,) = json.loads(path.read_text())["runs"]
    assert row["measures"] == record["measures"] and row["run"] == "m.run"
    again = drtools("eval", "--qrels", "m.tsv", "m.run", "--measures", "RR@10,R@10", "-o", "m.json")
    assert again.status == 0 and "already" in again.err and "0.4167" in again.out


def test_eval_writes_nothing_if_a_gate_refuses_the_run(drtools):
    evaluated(drtools, "m", {"q1": 2})
    refused = ["eval", "--qrels", "m.tsv", "m.run", "--floor", "RR@10>=0.6", "-o", "refused.json"]
    assert drtools(*refused).status == 3 and drtools(*refused).status == 3
    assert not Path("refused.json").exists() and not Path("refused.json.manifest.json").exists()


def test_a_fall_is_refused_by_default_and_let_pass_by_its_flag(drtools):
    evaluated(drtools, "m1", {f"q{number}": 1 for number in range(20)})
    evaluated(drtools, "m2", {f"q{number}": 1 + (number == 0) for number in range(20)})  # RR@10 .975
    evaluated(drtools, "m3", {f"q{number}": 1 + (number < 2) for number in range(20)})  # .95
    evaluated(drtools, "m4", {f"q{number}": 1 + (number < 3) for number in range(20)})  # .925
    publish = ["publish", vectors(1000), "live", "--measures"]
    assert drtools(*publish, "m1.json").status == 0
    first = current_version(Path("live"))
    outcome = drtools(*publish, "m2.json")
    assert outcome.status == 3 and current_version(Path("live")) == first and len(lines()) == 1
    assert "RR@10 0.9750, 1.0000 in the current version (--allow-fall RR@10=0.025)" in outcome.err
    assert len(outcome.err.splitlines()) == 1 and len(versions_of(Path("live"))) == 1
    for wrong in ("0.024", "R@10=0.5", "RR@10=0.02"):
        assert drtools(*publish, "m2.json", "--allow-fall", wrong).status == 3, wrong
    assert drtools(*publish, "m2.json", "--allow-fall", "RR@10=0.025").status == 0
    assert drtools(*publish, "m3.json", "--allow-fall", "0.03").status == 0
    outcome = drtools(*publish, "m4.json", "--allow-fall", "0.03")
    assert outcome.status == 3 and "0.9250, 1.0000 at first (--allow-fall-since-first RR@10=0.075)" in outcome.err
    more = ["--allow-fall", "0.03", "--allow-fall-since-first", "0.075"]
    assert drtools(*publish, "m4.json", *more).status == 0
    assert [each["measures"]["RR@10"] for each in lines()] == pytest.approx([1, 0.975, 0.95, 0.925])
    assert [each["judgements"] for each in lines()] == [20] * 4 and len(versions_of(Path("live"))) == 3
    again = drtools(*publish, "m4.json", *more)
    assert again.status == 0 and "already published" in again.err and len(lines()) == 4


def test_fewer_judgements_are_refused(drtools):
    evaluated(drtools, "m1", {f"q{number}": 1 for number in range(20)})
    evaluated(drtools, "m2", {f"q{number}": 1 for number in range(17)})
    assert drtools("publish", vectors(5), "live", "--measures", "m1.json").status == 0
    outcome = drtools("publish", vectors(5), "live", "--measures", "m2.json")
    assert outcome.status == 3 and "17 judgements, 20 in the current version" in outcome.err
    assert "--allow-fewer-judgements 0.15" in outcome.err and len(lines()) == 1
    assert (
        drtools("publish", vectors(5), "live", "--measures", "m2.json", "--allow-fewer-judgements", "0.15").status == 0
    )


def test_todays_and_the_fixed_queries_stand_in_the_history(drtools):
    evaluated(drtools, "fixed1", {f"q{number}": 1 for number in range(10)})
    evaluated(drtools, "fixed2", {f"q{number}": 1 + (number == 0) for number in range(10)})
    evaluated(drtools, "today1", {f"q{number}": 1 for number in range(10)})
    evaluated(drtools, "today2", {f"q{number}": 2 for number in range(50)})
    words = ["--measures", "today1.json", "--fixed-measures", "fixed1.json"]
    assert drtools("publish", vectors(1000), model(0.7), "live", *words).status == 0
    first = current_version(Path("live"))
    words = ["--measures", "today2.json", "--fixed-measures", "fixed2.json", "--allow-fall", "RR@10=0.5"]
    since_first = ["--allow-fall-since-first", "RR@10=0.5"]
    # the fixed set has the rule of its measure, unless it has a rule of its own
    outcome = drtools("publish", vectors(1518), model(0.7), "live", *words, *since_first, "--allow-shrinking", "0")
    assert outcome.status == 0, outcome.err
    assert lines()[1]["measures"] == pytest.approx(
        {"dev nDCG@10": 0.7, "RR@10": 0.5, "R@10": 1, "fixed RR@10": 0.95, "fixed R@10": 1}
    ) and set(lines()[1]["measured_on"]) == {"measures", "judgements", "fixed measures", "fixed judgements"}
    shown = drtools("show", "live").out
    change = "RR@10 1.0000 -> 0.5000, fixed RR@10 1.0000 -> 0.9500"
    assert f"since version 1: {change} (documents 1,000 -> 1,518" in " ".join(shown.split())
    assert "queries added 40, judgements 10 -> 50)" in " ".join(shown.split())
    drtools("publish", first, "live")
    assert lines()[2]["measures"]["RR@10"] == 1 and lines()[2]["queries"] == 10, "a version keeps its measures"
    refused = drtools("publish", first, "live", "--measures", "today2.json")
    assert refused.status == 2 and "--measures" in refused.err


def test_measures_that_are_none_or_were_changed_are_refused(drtools):
    path = evaluated(drtools, "m1", {"q1": 1})
    assert drtools("publish", vectors(5), "live", "--allow-fall", "0.1").status == 2
    assert drtools("publish", vectors(5), "live", "--measures", path, "--allow-fall", "nDCG=x").status == 2
    path.write_text(path.read_text() + " ")
    outcome = drtools("publish", vectors(5), "live", "--measures", path)
    assert outcome.status == 2 and "m1.json" in outcome.err
    outcome = drtools("publish", vectors(5), "live", "--measures", "m1.run")
    assert outcome.status == 2 and len(outcome.err.splitlines()) == 1 and not Path("live").exists()


def test_another_fixed_set_is_noted(drtools):
    evaluated(drtools, "m1", {"q1": 1})
    evaluated(drtools, "m2", {"q1": 1, "q2": 1})
    assert drtools("publish", vectors(5), "live", "--fixed-measures", "m1.json").status == 0
    outcome = drtools("publish", vectors(5), "live", "--fixed-measures", "m2.json")
    assert outcome.status == 0 and "the judgements of the fixed set of queries have changed" in outcome.err
    outcome = drtools("publish", vectors(6), "live")
    assert outcome.status == 0 and "without --measures nothing is compared" in outcome.err


@pytest.mark.slow
def test_analyze_draws_published_measures(drtools):
    for number in range(3):
        evaluated(drtools, f"m{number}", {"q1": 1, "q2": 1 + number})
        words = ["--measures", f"m{number}.json", "--allow-fall", "1", "--allow-fall-since-first", "1"]
        assert drtools("publish", vectors(5), "live", *words).status == 0
    assert drtools("analyze", "--history", "live.history.jsonl", "-o", "drift").status == 0
    found = json.loads(Path("drift/analysis.json").read_text())["history"]["curves"]
    assert found["RR@10"]["values"] == pytest.approx([1, 0.75, 2 / 3])
    check_picture(Path("drift/history.png"))
