"""--config FILE.yaml stands for its flags, and the command line wins; hints for habitual names; TOOL --version."""

import json

import pytest

import drtools as package
from drtools.cli.commands import command
from drtools.cli.habits import HABITS, habit_hint
from drtools.cli.main import tool_names

QRELS = "q1 0 d1 1\nq2 0 d2 1\n"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels").write_text(QRELS)
    for name in ("a.run", "b.run"):
        (tmp_path / name).write_text("q1 Q0 d1 1 9 x\nq2 Q0 d9 1 9 x\n")
    return tmp_path


def config(folder, text: str) -> list[str]:
    (folder / "flags.yaml").write_text(text)
    return ["--config", "flags.yaml"]


def test_flags_arguments_lists_and_switches_are_those_of_the_command_line(runs, drtools):
    text = "# flags\nqrels: qrels\nruns: [a.run, b.run]\nmeasures: RR@10,AP\nbaseline:\n  - b.run\n"
    text += "per_query: true\njson: no\nonly: null\n"
    found = drtools("eval", *config(runs, text))
    expected = drtools(*"eval --qrels qrels a.run b.run --measures RR@10,AP --baseline b.run --per-query".split())
    assert found.status == expected.status == 0 and found.out == expected.out and "RR@10" in found.out, found.err


@pytest.mark.parametrize("words", [["--measures", "P@1"], ["--measures=P@1"]])
def test_the_command_line_wins(runs, drtools, words):
    text = "qrels: absent\nmeasures: AP\nruns: a.run\n"
    outcome = drtools("eval", *config(runs, text), "--qrels", "qrels", *words, "b.run")
    assert outcome.status == 0 and "P@1" in outcome.out and "AP" not in outcome.out, outcome.err
    assert "b.run" in outcome.out and "a.run" not in outcome.out


def test_the_request_has_the_flags_wherever_they_came_from(runs, drtools):
    assert drtools("eval", *config(runs, "qrels: qrels\nruns: a.run\nmeasures: AP\n"), "-o", "out.json").status == 0
    again = drtools("eval", "--qrels", "qrels", "a.run", "--measures", "AP", "-o", "out.json")
    assert again.status == 0 and "already done" in again.err, again.err
    arguments = json.loads((runs / "out.json.manifest.json").read_text())["request"]["arguments"]
    assert arguments["measures"] == "AP" and "config" not in arguments
    other = drtools("eval", *config(runs, "qrels: qrels\nruns: a.run\nmeasures: RR\n"), "-o", "out.json")
    assert other.status == 2 and "--measures: AP then, RR now" in other.err, other.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("qrels: qrels\nmeasure: AP\n", "flags.yaml:2: found 'measure', expected a flag of eval such as measures"),
        ("qrels: qrels\nxyzzy: 1\n", "flags.yaml:2: found 'xyzzy', expected a flag of eval (drtools eval --help-all)"),
        ("qrels: [a, b]\n", "flags.yaml:1: qrels has a list, expected one value"),
        ("qrels: {a: b}\n", "flags.yaml:1: found a nested value"),
        ("qrels: a\nqrels: b\n", "flags.yaml:2: qrels is in line 1 already"),
        ("json: perhaps\n", "flags.yaml:1: json is 'perhaps', expected true or false"),
        ("- qrels\n", "flags.yaml:1: found no mapping"),
        ("qrels: 'a\n", "flags.yaml:"),
        ("a: &a [*a]\n", "flags.yaml:"),
        ("config: other.yaml\n", "flags.yaml:1: found 'config'"),
        ("x: !!python/object/apply:os.system ['touch made']\n", "flags.yaml:1"),
        ("\x00", "flags.yaml"),
    ],
)
def test_what_is_no_flag_is_named_with_its_line(runs, drtools, text, said):
    outcome = drtools("eval", *config(runs, text), "a.run")
    assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
    assert "internal" not in outcome.err and not (runs / "made").exists()


def test_a_file_that_is_not_there_is_named(runs, drtools):
    outcome = drtools("eval", "--config", "absent.yaml", "a.run")
    assert outcome.status == 2 and "absent.yaml: no such file (--config)" in outcome.err, outcome.err
    (runs / "bytes").write_bytes(b"\xff")
    assert "bytes: not UTF-8" in drtools("eval", "--config", "bytes", "a.run").err


def test_an_empty_file_changes_nothing(runs, drtools):
    assert drtools("eval", *config(runs, "# nothing\n"), "--qrels", "qrels", "a.run").status == 0


@pytest.mark.parametrize("tool", tool_names())
def test_hints_name_flags_that_the_tool_has(tool):
    flags = {name for each in command(tool).params for name in each.opts}
    for name, choices in HABITS.items():
        hint = habit_hint(name, flags)
        assert (hint is not None) == any(flag in flags for flag, _ in choices), (tool, name)
        if hint:
            assert hint.split("use ")[1].split(",")[0] in flags


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "--hits", "10"], "no such flag --hits here; use --depth"),
        (["search", "-k", "10"], "no such flag -k here; use --depth"),
        (["search", "--topics", "q"], "no such flag --topics here; use --queries"),
        (["mine-negatives", "--top-k", "10"], "use --ranks, such as --ranks 1-100"),
        (["eval", "-k", "10"], "use --measures, where the cutoff is a part of the name, as in nDCG@10"),
        (["train-contrastive", "--batch-size", "8"], "use --batch-queries, the queries of a step"),
        (["mlm-adapt", "--batch-size", "8"], "use --batch-documents, the documents of a step"),
        (["encode", "--batch-size", "8"], "use --batch-tokens, which counts tokens"),
        (["train-star", "--temperature", "0.05"], "use --scale, which is 1 / temperature"),
        (["train-adore", "--lr", "1e-5"], "use --learning-rate"),
    ],
)
def test_habitual_names_are_answered_with_the_tool_s_own(words, said, drtools):
    outcome = drtools(*words)
    assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err


def test_other_unknown_flags_are_answered_as_before(drtools):
    outcome = drtools("search", "--xyzzy", "1")
    assert outcome.status == 2 and "--xyzzy" in outcome.err and "--help lists the flags" in outcome.err
    assert "hint" not in outcome.err and "use --depth" not in drtools("doctor", "--hits", "3").err


def test_a_tool_s_version_is_that_of_drtools(drtools):
    outcome = drtools("search", "--version")
    assert outcome.status == 0 and outcome.out == f"drtools {package.__version__}\n" == drtools("--version").out
