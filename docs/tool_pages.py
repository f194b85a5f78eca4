"""A page for each tool, made from what `drtools TOOL --help-all` shows and from README's table of tools.

Sphinx has them written before it reads the others: docs/tools.md, the list, and docs/tools/NAME.md. They are not kept
in the tree.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from drtools.cli.commands import tool_module
from drtools.cli.groups import grouped
from drtools.cli.help import explained, facts_of, label_of, names_of, sections_of, value_of
from drtools.cli.main import tool_names
from drtools.cli.tool_flags import Flag

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]


def table_of_tools() -> dict[str, tuple[str, str]]:
    """Return what each tool reads and writes, from README's table. Its links begin at the folder of the pages."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](/")
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| (.+) \|$", readme, re.MULTILINE)
    return {name: (reads, writes) for name, reads, writes in rows}


def pages() -> dict[str, str]:
    """Return the pages by their place below docs: the list of tools, and one for each tool."""
    table = table_of_tools()
    return {"tools": list_of_tools(table), **{f"tools/{name}": tool_page(name, *table[name]) for name in tool_names()}}


def list_of_tools(table: dict[str, tuple[str, str]]) -> str:
    """Return the list of tools: what each reads and writes."""
    parts = [
        "# Tools",
        "`drtools` lists them, in the order of a pipeline. `drtools TOOL --help` shows the most important flags of a "
        "tool, and `drtools TOOL --help-all` shows what its page shows. From a checkout `bin/TOOL` is the same as "
        "`drtools TOOL`.",
    ]
    groups = {title: names for title, names in grouped(tool_names()).items() if names}
    for title, names in groups.items():
        parts.append(f"## {title}")
        parts += [f"[{name}](tools/{name}.md)\n: reads {table[name][0]}\n: writes {table[name][1]}" for name in names]
    for title, names in groups.items():
        listed = "\n".join(f"tools/{name}" for name in names)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```")
    return "\n\n".join(parts) + "\n"


def tool_page(name: str, reads: str, writes: str) -> str:
    """Return one tool's page: examples, its docstring, what it reads and writes, its flags with their defaults."""
    module = tool_module(name)
    about = explained(module.__doc__ or "")
    parts = [f"# {name}", prose(about.line, name), *examples(name, about.examples)]
    parts += [prose(paragraph, name) for paragraph in about.paragraphs]
    parts += [f"Reads\n: {reads}\n\nWrites\n: {writes}", f"```{{program}} drtools {name}\n```"]
    for section in sections_of(module.main):
        parts += [f"## {section.title}", *map(option, section.flags)]
    return "\n\n".join(parts) + "\n"


def examples(name: str, commands: list[str]) -> list[str]:
    """Return the parts of a page with a tool's commands, what one of them prints, and a picture that it makes.

    docs/outputs has these as a test has recorded them, on a small collection of made-up texts and untrained models.
    """
    parts = ["```sh\n" + "\n".join(commands) + "\n```"]
    output, picture = (ROOT / "docs" / "outputs" / f"{name}.{kind}" for kind in ("txt", "png"))
    if output.exists():
        printed = output.read_text(encoding="utf-8").rstrip()
        parts += ["On a toy collection, one of them prints:", f"```console\n{printed}\n```"]
    if picture.exists():
        parts.append(f"![A picture that {name} makes](../outputs/{picture.name})")
    return parts


def prose(paragraph: str, name: str) -> str:
    """Return a paragraph as Markdown: flags set as code, other tools' names as links to their pages."""
    parts = re.split(r"(`[^`]+`)", paragraph)
    others = "|".join(
        sorted((other for other in tool_names() if "-" in other and other != name), key=len, reverse=True)
    )
    parts[::2] = [
        re.sub(rf"(?<![\w-])({others})(?![\w-])", r"[\1](\1.md)", re.sub(r"(?<![\w-])(--?[a-z][a-z-]*)", r"`\1`", part))
        for part in parts[::2]
    ]
    return "".join(parts)


def option(flag: Flag) -> str:
    """Return one flag as an `option` of Sphinx, which search and links find.

    Its kind of value, what it is for, its bounds and default.
    """
    facts = "; ".join(
        re.sub(r"^default: (?!a space$)(.*)", r"default `\1`", fact).replace("required", "**required**")
        for fact in facts_of(flag, everything=True)
    )
    value = f" <{value_of(flag)}>" if flag.names and flag.kind is not bool else ""
    name = names_of(flag) + value if flag.names else label_of(flag)
    body = re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", flag.help)
    return f"```{{option}} {name}\n{' '.join(filter(None, (body, f'({facts})' if facts else '')))}\n```"


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
