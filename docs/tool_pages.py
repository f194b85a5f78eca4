"""A page for each tool, made from what `drtools TOOL --help` shows and from README's table of tools.

Sphinx has them written before it reads the others: docs/tools.md, the list, and docs/tools/NAME.md. They are not kept
in the tree.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

from drtools.cli.commands import command
from drtools.cli.main import tool_names

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from typer.core import TyperArgument, TyperOption

ROOT = Path(__file__).parents[1]
FLAGS = "Flags"  # those without a panel of their own
BOUNDS = {r"x>=(\S+)": r"\1 or more", r"x<=(\S+)": r"\1 or less", r"(\S+)<=x<=(\S+)": r"\1 to \2"}


def table_of_tools() -> dict[str, tuple[str, str]]:
    """Return what each tool reads and writes, from README's table."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.+) \| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    return {name: (reads, writes) for name, reads, writes in rows}


def pages() -> dict[str, str]:
    """Return the pages by their place below docs: the list of tools, and one for each tool."""
    table = table_of_tools()
    return {"tools": list_of_tools(table), **{f"tools/{name}": tool_page(name, *table[name]) for name in tool_names()}}


def list_of_tools(table: dict[str, tuple[str, str]]) -> str:
    """Return the list of tools: what each reads and writes."""
    entries = "\n\n".join(
        f"[{name}](tools/{name}.md)\n: reads {reads}\n: writes {writes}" for name, (reads, writes) in table.items()
    )
    listed = "\n".join(f"tools/{name}" for name in tool_names())
    return (
        "# Tools\n\n`drtools` lists them, `drtools TOOL --help` shows what these pages show. From a checkout "
        "`bin/TOOL` is the same as `drtools TOOL`.\n\n"
        f"{entries}\n\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
    )


def tool_page(name: str, reads: str, writes: str) -> str:
    """Return one tool's page: its docstring, what it reads and writes, its flags by panel with their defaults."""
    parsed = command(name)
    context = parsed.make_context(name, [], resilient_parsing=True)
    panels: dict[str, list[str]] = {FLAGS: []}
    for parameter in sorted(parsed.params, key=lambda parameter: parameter.param_type_name != "argument"):
        panels.setdefault(parameter.rich_help_panel or FLAGS, []).append(
            flag(parameter, *parameter.get_help_record(context))
        )
    docstring = inspect.getdoc(importlib.import_module(f"drtools.tools.{name.replace('-', '_')}"))
    parts = [
        f"# {name}",
        prose(docstring, name),
        f"Reads\n: {reads}\n\nWrites\n: {writes}",
        f"```{{program}} drtools {name}\n```",
    ]
    for panel, flags in panels.items():
        parts += [f"## {panel}", *flags]
    return "\n\n".join(parts) + "\n"


def prose(docstring: str, name: str) -> str:
    """Return a docstring as Markdown.

    Its indented commands as code, flags set as code, other tools' names as links to their pages.
    """
    paragraphs = []
    for paragraph in docstring.split("\n\n"):
        if paragraph.startswith("    "):
            paragraphs.append(f"```sh\n{inspect.cleandoc(paragraph)}\n```")
            continue
        parts = re.split(r"(`[^`]+`)", paragraph)
        others = "|".join(
            sorted((other for other in tool_names() if "-" in other and other != name), key=len, reverse=True)
        )
        parts[::2] = [
            re.sub(
                rf"(?<![\w-])({others})(?![\w-])", r"[\1](\1.md)", re.sub(r"(?<![\w-])(--?[a-z][a-z-]*)", r"`\1`", part)
            )
            for part in parts[::2]
        ]
        paragraphs.append("".join(parts))
    return "\n\n".join(paragraphs)


def flag(parameter: TyperOption | TyperArgument, name: str, help_text: str) -> str:
    """Return one flag as an `option` of Sphinx, which search and links find.

    Its kind of value, what it is for, its bounds and default.
    """
    words = parameter.help or ""
    facts = [_fact(fact) for fact in help_text.removeprefix(words).strip(" []").split("; ") if fact]
    if parameter.multiple:
        facts.append("can be repeated")
    if parameter.param_type_name == "argument":
        name = parameter.metavar or (parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]")
        name += " ..." if parameter.nargs == -1 else ""
    body = re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", words)
    label = re.sub(r"list\[(.+)\]|(\w+) range", r"\1\2", name)
    told = f"({'; '.join(facts)})" if facts else ""
    return f"```{{option}} {label}\n{' '.join(filter(None, (body, told)))}\n```"


def _fact(text: str) -> str:
    default = re.fullmatch(r"default: ?(.*)", text)
    if default:
        return f"default `{default[1]}`" if default[1].strip() else "default: a space"
    for bound, words in BOUNDS.items():
        if re.fullmatch(bound, text):
            return re.sub(bound, words, text)
    return f"**{text}**" if text == "required" else text


def write_pages(app: Sphinx) -> None:
    """Write the pages where Sphinx looks for them.

    Those that have not changed are left as they are, others than these are removed.
    """
    root = Path(app.srcdir)
    (root / "tools").mkdir(exist_ok=True)
    made = {root / f"{place}.md": text for place, text in pages().items()}
    for path in set((root / "tools").glob("*.md")) - set(made):
        path.unlink()
    for path, text in made.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Have the pages written before Sphinx reads the others."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
