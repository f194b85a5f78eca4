"""Every command that the documentation says to type is run, or listed here with the reason why not.

Links lead somewhere; messages are those of the code.
"""

import ast
import re
import shutil
import sys
from pathlib import Path

import pytest
from documented import (
    SHORTER,
    blocks,
    check,
    commands,
    inline_commands,
    run_line,
    stages,
    toy_world,
    words_for_drtools,
)
from typer import TyperException

from drtools.cli import model_card
from drtools.cli.commands import command
from drtools.cli.main import tool_names
from drtools.cli.tool_flags import shown_name
from drtools.errors import InputError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))  # where tool_pages.py is


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# pages whose commands are run; and all texts that name commands, whose flags are looked at
PAGES = {
    str(path.relative_to(ROOT)): read(path)
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if path.name != "tools.md"
}
EXAMPLES = {
    str(path.relative_to(ROOT)): read(path) for path in sorted((ROOT / "examples").glob("*/README.md"))
}  # their pipelines have tests of their own
HELP = {
    path.stem: ast.get_docstring(ast.parse(read(path)))
    for path in sorted((ROOT / "drtools" / "tools").glob("[a-z]*.py"))
}
CARDS = {"an encoder's card": model_card.USAGE, "a ranker's card": model_card.RANKER_USAGE}
TEXTS = PAGES | EXAMPLES | HELP | CARDS

# commands that are not run, by their first word
NOT_RUN = {
    "make": "sets up an environment; the examples' Makefiles have tests of their own",
    "pip": "installs",
    "python": "measures a GPU",
    "torchrun": "starts several processes; two of them are compared with one in tests/training/test_processes.py",
}

# pages that need a server; tests/search/test_milvus.py and test_milvus_faults.py run such commands on one
OF_A_SERVER = {"docs/engines.md"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Make the toy collection once for the pages that this process runs."""
    folder = tmp_path_factory.mktemp("world")
    toy_world(folder)
    return folder


FIRST = "README.md"


@pytest.mark.parametrize(
    "name",
    [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in PAGES if name not in {FIRST, *OF_A_SERVER})],
)
def test_a_page_runs_from_top_to_bottom(name, world, tmp_path, drtools, monkeypatch):
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGES[name]):
        if block.caption:
            Path(block.caption).parent.mkdir(parents=True, exist_ok=True)
            Path(block.caption).write_text("".join(f"{line}\n" for _, line in block.lines), encoding="utf-8")
    for number, line in commands(PAGES[name]):
        if stages(line)[0][0][0] in NOT_RUN:
            continue
        try:
            run_line(line, drtools, SHORTER)
        except AssertionError as error:
            raise AssertionError(f"{name}:{number}: {line}\n{error}") from None


@pytest.mark.parametrize("name", TEXTS)
def test_commands_have_the_tools_flags(name):
    for number, line in [*commands(TEXTS[name]), *inline_commands(TEXTS[name])]:
        for words in stages(line)[0]:
            ours = words_for_drtools(words)
            try:
                if ours is not None:
                    check(ours)
            except (AssertionError, TyperException) as error:
                raise AssertionError(f"{name}:{number}: {line}\n{error}") from None


def test_what_counts_as_a_command():
    page = """Text with `drtools show FILE` in it.

    drtools encode --model a \\
        --corpus b -o c   # a remark
    {"_id": "1"}

```sh
X=1 drtools fuse a b | head -3 > d

make docs
```

```{code-block} json
:caption: e.jsonl

{"_id": "1"}
```
"""
    assert [(number, stages(line)) for number, line in commands(page)] == [
        (3, ([["drtools", "encode", "--model", "a", "--corpus", "b", "-o", "c"]], None)),
        (8, ([["drtools", "fuse", "a", "b"], ["head", "-3"]], "d")),
        (10, ([["make", "docs"]], None)),
    ]
    assert [*inline_commands(page)] == [(1, "drtools show FILE ...")]
    assert [block.caption for block in blocks(page)] == [None, None, "e.jsonl"] and [*blocks(page)][2].lines == [
        (16, '{"_id": "1"}')
    ]
    for wrong in (
        "encode --documnets x ...",
        "encode --corpus x",
        "encode --documents x ...",
        "encodes",
        "search --depth many x",
    ):
        with pytest.raises((AssertionError, TyperException)):
            check(wrong.split())


def test_there_is_a_page_with_every_flag_of_every_tool():
    import tool_pages

    made = tool_pages.pages()
    assert set(made) == {"tools", *(f"tools/{name}" for name in tool_names())}
    assert sorted(tool_pages.table_of_tools()) == tool_names(), "README's table of tools"
    for name in tool_names():
        page = made[f"tools/{name}"]
        for parameter in command(name).params:
            assert parameter.param_type_name == "argument" or re.search(
                rf"(?m)^```{{option}} .*{shown_name(parameter.opts)}( |$)", page
            ), f"{name}: {parameter.opts}"
        assert page.count("```{option} ") == len(command(name).params)
    assert "[mine-negatives](mine-negatives.md)" in made["tools/train-star"]
    assert re.search(r"```{option} --schedule <linear\|constant>\n.*`linear`\)\n```", made["tools/train-star"])


def test_examples_and_benchmarks_have_no_former_names_of_flags():
    lines = [
        (path, line)
        for path in [*(ROOT / "examples").rglob("*"), *(ROOT / "benchmarks").rglob("*")]
        if path.is_file() and path.suffix in ("", ".mk", ".md", ".py", ".sh")
        for line in read(path).replace("\\\n", "").splitlines()
    ]
    assert len(lines) > 1000
    former = re.compile(r"\bindex\b.*--lucene|\bencode\b.*--documents\b")
    assert [(path.name, line) for path, line in lines if former.search(line)] == []


OTHERS_FLAGS = {"--help", "--help-all", "--nproc-per-node", "-c"}  # every tool's, torchrun's, trec_eval's


@pytest.mark.parametrize("name", PAGES)
def test_flags_and_defaults_in_sentences_are_those_of_tools(name):
    """What stands as `--flag` is a tool's, and `--flag` (number) is the default of one, or what its help calls so."""
    known: dict[str, list[str]] = {}
    for tool in tool_names():
        for parameter in command(tool).params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                known.setdefault(option, []).append(f"{parameter.default} {parameter.help}")
    text = re.sub(r"(?s)```.*?```", "", PAGES[name])
    said = re.findall(r"(?<![\w-])--?[a-z][a-z-]+", " ".join(re.findall(r"`([^`]*)`", text)))
    assert set(said) - set(known) - OTHERS_FLAGS == set()
    for flag, number in re.findall(r"`(--[a-z-]+)` \((\.?\d[\d.,]*\d|\d)\b", text):
        value = float(number.replace(",", ""))
        numbers = [float(found) for told in known[flag] for found in re.findall(r"(?<![\w.])(?:\d+\.?\d*|\.\d+)", told)]
        assert value in numbers, f"{flag} ({number}): {known[flag]}"


def anchors(page: str) -> set[str]:
    """Return what links may point at: headings, as GitHub and MyST call them, and the labels of MyST."""
    headings = re.findall(r"(?m)^#+ (.+)$", page)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | set(
        re.findall(r"(?m)^\((\S+)\)=$", page)
    )


@pytest.mark.parametrize("name", [*PAGES, *EXAMPLES])
def test_links_lead_somewhere(name):
    text = TEXTS[name]
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?s)```.*?```|`[^`]*`", "", text)):
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert path == "tools.md" or found.exists(), f"{name}: {target}"
        page = found / "README.md" if found.is_dir() else found
        assert not anchor or anchor in anchors(read(page)), f"{name}: {target}"


def as_shown(part: ast.expr) -> str:
    """Return a part of an f-string: words as they are, a parameter's name as a flag, `…` for another value."""
    if isinstance(part, ast.Constant):
        return part.value
    value = part.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "param":
        name = value.args[0]
        return f"--{name.value.replace('_', '-') if isinstance(name, ast.Constant) else '…'}"
    return "…"


def in_words(value: ast.expr | None) -> str:
    """Return what stands for an argument of an error in its message."""
    if isinstance(value, ast.JoinedStr):
        return "".join(map(as_shown, value.values))
    if value is None or isinstance(value, ast.Constant):
        return str(value.value) if value else ""
    return as_shown(ast.FormattedValue(value))


def message_of(call: ast.Call) -> str:
    """Return the message of an `InputError(found, where=..., expected=..., remedy=...)`."""
    parts = {keyword.arg: in_words(keyword.value) for keyword in call.keywords}
    return str(InputError(in_words(call.args[0] if call.args else None), **parts))


def strings_of_the_code() -> list[str]:
    """Return every string and every error of the package, with `…` where a value is put in."""
    found = []
    for path in sorted((ROOT / "drtools").rglob("*.py")):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                found.append(message_of(node))
            elif isinstance(node, ast.JoinedStr):
                found.append(in_words(node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_are_those_of_the_code():
    messages = re.findall(r"(?m)^`(.+)`\n: ", PAGES["docs/troubleshooting.md"])
    said = strings_of_the_code()
    assert len(messages) > 25
    assert [message for message in messages if not any(message.strip("… ") in string for string in said)] == []
