"""What messages advise: flags and commands, which the tool that is advised has to have."""

import re
from collections.abc import Iterable, Iterator

from drtools.cli.commands import command
from drtools.cli.main import tool_names

OTHERS = {"--help", "--help-all", "--nproc-per-node"}  # every tool's, torchrun's
FLAG = re.compile(r"(?<![\w/.=-])--[a-z][a-z0-9-]*[a-z0-9]")


def flags_of_tool(tool: str) -> set[str]:
    """Return every name of a tool's flags, former ones too."""
    return {name for each in command(tool).params for name in (*each.opts, *each.secondary_opts)} | OTHERS


def named_tools(text: str) -> list[str]:
    """Return the tools that a text names."""
    return [tool for tool in tool_names() if re.search(rf"(?<![\w-]){tool}(?![\w-])", text)]


def advised_flags(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each flag that a text names, with the tools that it names anywhere: `mine-negatives --by-rank`."""
    tools = named_tools(text)
    for found in FLAG.finditer(text):
        yield found[0], tools


def unknown_flags(text: str, tools: Iterable[str], given: Iterable[str] = ()) -> list[str]:
    """Return the flags in a message that neither one of `tools` has, nor a tool that it names, nor the user gave."""
    own = {flag for tool in tools for flag in flags_of_tool(tool)}
    typed = " ".join(map(str, given))
    return [
        flag
        for flag, others in advised_flags(text)
        if flag not in own and flag not in typed and not any(flag in flags_of_tool(tool) for tool in others)
    ]
