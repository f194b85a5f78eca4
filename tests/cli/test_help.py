"""--help and the list of tools: what they say first, that they fit a screen, that their examples run as they are."""

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Outcome
from documented import SHORTER, check, run_line, stages, toy_world, words_for_drtools

from drtools.cli.commands import command, tool_module
from drtools.cli.groups import BEGIN, GROUPS, grouped
from drtools.cli.help import COLUMNS, LINES, explained, help_text, help_wanted
from drtools.cli.main import main, tool_names
from drtools.cli.tool_flags import shown_name

SECONDS = 0.3  # of processor time that --help may take on a machine that does nothing else


def examples_of(name: str) -> list[str]:
    """Return the commands of a tool's help, each on one line."""
    return [example.replace("\\\n", "") for example in explained(tool_module(name).__doc__).examples]


def test_the_list_names_each_tool_once_in_its_group(capsys):
    main([])
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("  drtools")]
    assert listed == [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == tool_names(), "a tool that is in no group of cli/groups.py, or in several"
    assert max(map(len, lines)) <= 100 and all(len(line.split()) > 3 for line in lines if line.startswith("  "))
    assert [line.strip() for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "Begin with:",
        *(f"{title}:" for title in GROUPS),
    ]


def test_the_list_begins_with_three_commands(capsys):
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(BEGIN) == 3 and [line.strip().split("  ")[0] for line in lines[3:6]] == [*BEGIN]
    for line in BEGIN:
        check(words_for_drtools(stages(line)[0][0]))


def test_the_table_of_the_readme_has_the_order_of_the_groups():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \|", readme[readme.index("| tool | reads |") :])
    assert rows == [name for names in GROUPS.values() for name in names]


def test_a_tool_without_a_group_comes_last():
    assert grouped(["new", "index"]) == {
        **{title: [] for title in GROUPS},
        "Index and search": ["index"],
        "Other": ["new"],
    }


@pytest.mark.parametrize("name", tool_names())
def test_help_fits_a_screen(name):
    for width in (None, 80, 200):
        lines = help_text(name, False, width).splitlines()
        assert len(lines) <= LINES, (width, len(lines))
        assert max(map(len, lines)) <= COLUMNS, max(lines, key=len)


@pytest.mark.parametrize("name", tool_names())
def test_help_begins_with_two_examples_and_names_every_flag(name):
    text = help_text(name, False, None)
    head = text[: text.index("\n\n", text.index("Examples:"))]
    assert re.search(rf"(?m)^    drtools {name}( |$)", head)
    assert len(re.findall(r"(?m)^    drtools [a-z-]+", head)) == 2 and head.count("\n") < 12
    everything = help_text(name, True, None)
    for option in {shown_name(parameter.opts) for parameter in command(name).params}:
        if option.startswith("--"):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), option
            assert re.search(rf"(?m)^  (-\w, )?{option}(?![\w-])", everything), option
    assert not re.search(r"(?<![\w-])--(lucene|documents)(?![\w-])", text + everything)
    assert max(map(len, everything.splitlines())) <= COLUMNS


@pytest.mark.parametrize("name", tool_names())
def test_headings_are_in_order(name):
    headings = re.findall(r"(?m)^([A-Z].*):$", help_text(name, True, None))
    expected = [
        "Examples",
        "Input",
        "Output",
        "Flags",
        "Encoder",
        "Training",
        "Dev evaluation",
        "Computing",
        "Messages",
    ]
    assert [heading for heading in headings if heading in expected] == [each for each in expected if each in headings]
    assert headings[-2:] == ["Messages", "Help"] and headings[0] == "Examples"


@pytest.mark.parametrize("name", tool_names())
def test_examples_parse(name):
    assert len(examples_of(name)) >= 2
    for line in examples_of(name):
        assert "..." not in line and "…" not in line
        for words in stages(line)[0]:
            check(words_for_drtools(words))


def test_names_in_help_are_words():
    text = help_text("merge-deliveries", True, None)
    assert "DELIVERY ..." in text.split("\n")[0] and "  -h, --help " in text


def test_help_is_wanted_only_where_it_is_no_value():
    wanted = {
        ("--help",): "--help",
        ("-h",): "--help",
        ("--steps", "3", "--help-all"): "--help-all",
        ("--title-separator", "--help"): None,
        ("--title-separator=-", "--nonsense", "--help"): "--help",
        ("--", "--help"): None,
        ("--corpus", "c"): None,
    }
    for words, expected in wanted.items():
        found = help_wanted("train-star", [*words])
        assert (found.names[-1] if found else None) == expected, words


def test_names_of_the_papers_are_explained_where_they_first_appear():
    """In the list and in the text of each tool that uses them."""
    meaning = {"Lambda": "imitates|dense copy", "REM": "relevance module", "DAM": "domain-adapted module"}
    for name in tool_names():
        text = " ".join((tool_module(name).__doc__ or "").split())
        for word, words in meaning.items():
            if re.search(rf"(?<![\w-]){word}s?(?![\w-])", text):
                assert re.search(words, text), f"{name}: {word}"


@pytest.mark.slow
def test_help_takes_little_time(environment):
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "drtools", "train-star", "--help"], env=environment, check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1.5 * SECONDS, seconds  # tests share the machine


OUTPUTS = Path(__file__).parents[2] / "docs" / "outputs"
OF_THE_MACHINE = ("doctor", "cache", "completion", "suggest-index")  # folders, versions, times, or a program
LONGEST_OUTPUT = 4000  # characters of data that a page has room for
GATED = {"eval": (0, 3)}  # a gate or a floor of an example may refuse a toy's runs


def masked(text: str) -> list[str]:
    """Return the lines of an output without numbers, and without what follows from numbers of untrained models.

    A fingerprint counts as a number: it follows from vectors, whose last bits depend on the processor.
    """
    text = re.sub(r"\b[0-9a-f]{12}\b", "0", text)
    lines = [line for line in text.splitlines() if "better than the start" not in line]
    plain = [line.replace("(best so far)", "").replace("*", "") for line in lines]
    return [" ".join(re.sub(r"-?[\d.,]+( (s|min|h|B|kB|MB|GB)\b)*( #)*", "#", line).split()) for line in plain]


def as_shown(words: tuple, outcome: Outcome) -> str:
    """Return a command and what it prints, data before messages, as a page shows them."""
    return f"$ drtools {shlex.join(map(str, words))}\n{outcome.out}{outcome.err}"


@pytest.mark.slow
def test_the_examples_of_all_tools_run_in_one_world(tmp_path, drtools, monkeypatch, capsysbinary):
    """Each is run as soon as what it reads is there: they name one another's outputs.

    The pages of the tools show what one example of each prints. DRTOOLS_WRITE_OUTPUTS=1 writes that anew.
    """
    toy_world(tmp_path)
    capsysbinary.readouterr()
    monkeypatch.chdir(tmp_path)
    printed: dict[str, dict[int, tuple[bool, str]]] = {}
    latest = []

    def run(*words: object, stdin: bytes = b"") -> Outcome:
        outcome = drtools(*words, stdin=stdin)
        latest.append((words, outcome))
        return outcome

    waiting = [(name, line) for names in grouped(tool_names()).values() for name in names for line in examples_of(name)]
    waiting = list(dict.fromkeys((name, line) for name, line in waiting))
    assert len(waiting) > 60
    while waiting:
        failed = []
        for name, line in waiting:
            try:
                run_line(line, run, SHORTER, GATED.get(name, (0,)))
                words, outcome = latest[-1]
                if words[0] == name and len(outcome.out) < LONGEST_OUTPUT:
                    place = examples_of(name).index(line)
                    printed.setdefault(name, {})[place] = (not outcome.out, as_shown(words, outcome))
            except AssertionError as error:
                failed.append((name, line, str(error)))
        assert len(failed) < len(waiting), "\n".join(map(str, failed))
        waiting = [(name, line) for name, line, _ in failed]
    # the first example that prints data, else the first
    kept = {
        name: min((is_empty, place, text) for place, (is_empty, text) in found.items())[2]
        for name, found in printed.items()
        if name not in OF_THE_MACHINE
    }
    assert not any(str(tmp_path) in text for text in kept.values())
    if os.environ.get("DRTOOLS_WRITE_OUTPUTS") == "1":
        for name, text in kept.items():
            (OUTPUTS / f"{name}.txt").write_text(text, encoding="utf-8")
        shutil.copy(sorted(Path("errors").glob("*.png"))[0], OUTPUTS / "analyze.png")
    stored = {path.stem: path.read_text(encoding="utf-8") for path in OUTPUTS.glob("*.txt")}
    assert len(stored) > 20 and set(stored) <= set(kept)
    for name, text in stored.items():
        if name == "search":  # hits of an untrained model, which other processors rank otherwise
            assert text.count("\n") == kept[name].count("\n") > 10
        else:
            assert [line for line in masked(text) if line not in masked(kept[name])] == [], name
    assert [*Path("errors").glob("*.png")]
