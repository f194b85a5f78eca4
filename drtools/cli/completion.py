"""Completion on Tab: names of tools, flags, and the values of flags with choices; otherwise file names.

A shell's script (`drtools completion SHELL` prints it) runs the current command line, up to the word at the cursor,
with DRTOOLS_COMPLETE set. The answer is the line `files`, or the line `words` followed by one candidate per line, with
a tab and its help after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter

from drtools.cli.tool_flags import Flag, flags_of

VARIABLE = "DRTOOLS_COMPLETE"


HELP = Flag(("-h", "--help", "--help-all"), bool, (), False, "show the flags")


def answer(words: list[str], tools: Mapping[str, str], parameters_of: Callable[[str], Sequence[Parameter]]) -> str:
    """Return the answer to a Tab.

    `words` are the words after the command, the last one up to the cursor (empty after a space). `tools` maps tools'
    names to their first lines. `parameters_of` returns a tool's flat parameters; it is called for at most one tool.
    """
    current = words[-1] if words else ""
    if len(words) < 2:
        own = {"--help": "list the tools", "--version": "print the version"} if current.startswith("-") else {}
        return _lines((name, said) for name, said in {**tools, **own}.items() if name.startswith(current))
    if words[0] not in tools:
        return _lines(())
    flags = [*flags_of(parameters_of(words[0])), HELP]
    given, waiting, only_arguments = _read(
        [word for word in words[1:-1] if word != "="], flags
    )  # bash makes three words of --flag=value
    name, is_joined, value = current.partition("=")
    if waiting is None and is_joined and name.startswith("--"):
        joined = next((flag for flag in flags if name in (*flag.names, *flag.former_names)), HELP)
        return _values(joined, value, f"{name}=")
    if waiting is not None:
        return _values(waiting, current, "")
    argument = next((flag for flag in flags if not flag.names), None)
    if only_arguments or (argument and not current.startswith("-")):
        return _values(argument, current, "") if argument else _lines(())
    offered = [flag for flag in flags if flag.names and (flag.many or flag not in given)]
    return _lines(
        (name, flag.help)
        for flag in offered
        for name in flag.names
        if name.startswith(current) and (name.startswith("--") or current == name)
    )


def _read(words: list[str], flags: list[Flag]) -> tuple[list[Flag], Flag | None, bool]:
    """Return the flags that were given, the one whose value comes next, and whether `--` is among the words."""
    by_name = {name: flag for flag in flags for name in (*flag.names, *flag.former_names)}
    given: list[Flag] = []
    waiting: Flag | None = None
    for word in words:
        if waiting is not None:
            waiting = None
        elif word == "--":
            return given, None, True
        elif word.split("=")[0] in by_name:
            given.append(by_name[word.split("=")[0]])
            waiting = given[-1] if given[-1].kind is not bool and "=" not in word else None
    return given, waiting, False


def _values(flag: Flag, beginning: str, before: str) -> str:
    if flag.choices:
        return _lines((before + choice, "") for choice in flag.choices if choice.startswith(beginning))
    return "files" if flag.kind is str else _lines(())


def _lines(candidates: Iterator[tuple[str, str]] | tuple[()]) -> str:
    return "\n".join(["words", *(f"{name}\t{said}".rstrip() for name, said in candidates)])
