"""Every flag and every command that a message names exists in the tool for which it is named."""

import ast
import re
from pathlib import Path

import pytest
from documented import check
from hints import FLAG, flags_of_tool, unknown_flags
from test_documentation import in_words, message_of

import drtools
from drtools.cli.commands import flat_parameters, tool_module
from drtools.cli.main import tool_names

PACKAGE = Path(drtools.__file__).parent


def strings(path: Path) -> list[str]:
    """Return what a file may say: its errors, f-strings and strings, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
            found.append(message_of(node))
        elif isinstance(node, ast.JoinedStr):
            found.append(in_words(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents | inner:
            found.append(node.value)
    return found


def users_of(file: str) -> list[str]:
    """Return the tools with flags that a file of cli/flags declares."""
    module = f"drtools.cli.flags.{file}"
    return [
        tool
        for tool in tool_names()
        if any(kind.__module__ == module for kind in flat_parameters(tool_module(tool).main)[1].values())
    ]


@pytest.mark.parametrize("tool", tool_names())
def test_flags_in_a_tool_s_own_messages_are_its_flags(tool):
    texts = strings(PACKAGE / "tools" / f"{tool.replace('-', '_')}.py")
    assert {flag for text in texts for flag in unknown_flags(text, [tool])} == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli" / "flags").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_flags_in_the_messages_of_shared_groups_are_those_of_a_tool_that_has_the_group(path):
    tools = users_of(path.stem) or tool_names()
    assert {flag for text in strings(path) for flag in unknown_flags(text, tools)} == set()


def test_parameters_that_the_library_names_are_parameters_of_a_tool():
    known = {parameter.name for tool in tool_names() for parameter in flat_parameters(tool_module(tool).main)[0]}
    negated = {name[2:].replace("-", "_") for tool in tool_names() for name in flags_of_tool(tool)}
    named = [
        (path.name, node.args[0].value)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "param" and isinstance(node.args[0], ast.Constant)
    ]
    assert (
        len(named) > 100
        and [(file, name) for file, name in named if name not in known | negated and "{" not in name] == []
    )


def test_commands_in_messages_are_those_of_tools():
    """What stands in backticks as `drtools TOOL ...`: capitals stand for what the user fills in."""
    found = [
        (path.name, command)
        for path in PACKAGE.rglob("*.py")
        for text in strings(path)
        for command in re.findall(r"`drtools ([a-z][^`]+)`", text)
    ]
    assert len(found) > 3
    for file, words in found:
        try:
            check([*words.split(), "..."])
        except AssertionError as error:
            raise AssertionError(f"{file}: {words}: {error}") from None


def test_what_is_unknown_is_found():
    assert unknown_flags("use --no-such-flag, or --corpus", ["encode"]) == ["--no-such-flag"]
    assert unknown_flags("mine again with mine-negatives --by-rank 1:2-3", ["encode"]) == []
    assert unknown_flags("use --by-rank", ["encode"]) == ["--by-rank"]
    assert unknown_flags("No such option: --docu", ["encode"], ["--docu", "x"]) == []
    assert FLAG.findall("--a-b=3, (--c4)") == ["--a-b", "--c4"]
