"""What `drtools TOOL --help` and `--help-all` print.

The order is the same for every tool: what it does, examples, inputs, the output, the tool's own flags, and at the end
the flags that it shares with other tools, in groups. `--help` takes at most LINES lines: it only names the shared
flags, and leaves out the explanations and then the last groups of the tool's own flags where there is no room.
"""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from drtools.cli.commands import flat_parameters, tool_module
from drtools.cli.terminal import wrapped
from drtools.cli.tool_flags import Flag, flags_of
from drtools.outputs.specs import OutputSpec

LINES, COLUMNS, NARROWEST = 60, 100, 60
LABEL = 30  # columns for a flag and its value; what is longer has a line of its own
INPUT, OUTPUT, OWN = "Input", "Output", "Flags"
SHARED = (
    "Encoder",
    "Training",
    "Dev evaluation",
    "Computing",
    "Configuration",
    "Messages",
)  # groups that many tools have
HELP = Flag(("-h", "--help"), bool, (), False, "show the most important flags", default=False)
HELP_ALL = Flag(("--help-all",), bool, (), False, "show every flag, and how the tool works", default=False)


class Section(NamedTuple):
    """Flags under one heading."""

    title: str
    flags: list[Flag]

    @property
    def is_shared(self) -> bool:
        """Whether other tools have these flags too."""
        return self.title in SHARED


class Explained(NamedTuple):
    """The parts of a docstring: what the tool does in a line, its commands, the other paragraphs."""

    line: str
    examples: list[str]
    paragraphs: list[str]


def explained(docstring: str) -> Explained:
    """Return the parts of a tool's docstring, each example with its continued lines."""
    line, *parts = inspect.cleandoc(docstring).split("\n\n")
    examples: list[str] = []
    for part in parts:
        if part.startswith("    "):
            joined = textwrap.dedent(part).replace("\\\n", "\\\0")
            examples += [command.replace("\0", "\n") for command in joined.split("\n")]
    return Explained(line.replace("\n", " "), examples, [part for part in parts if not part.startswith("    ")])


def sections_of(main: Callable[..., Any]) -> list[Section]:
    """Return a tool's flags under their headings, in the order in which help shows them."""
    parameters, groups = flat_parameters(main)
    kinds = [kind for kind in groups.values() if issubclass(kind, OutputSpec)]
    outputs = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    found: dict[str, list[Flag]] = {INPUT: [], OUTPUT: [], OWN: []}
    for flag in flags_of(parameters):
        is_start = flag.parameter == "model" and flag.is_model  # the one flag of an encoder that nearly all pass
        title = OUTPUT if flag.parameter in outputs else flag.panel or (INPUT if flag.is_input else OWN)
        if is_start:
            found[INPUT].insert(0, flag)
        else:
            found.setdefault(title if flag.names else INPUT, []).append(flag)
    return sorted((Section(title, flags) for title, flags in found.items() if flags), key=_place)


def _place(section: Section) -> int:
    """Return where a section stands: sources that are inputs before the output, shared flags after the tool's own."""
    if section.title in (INPUT, OUTPUT, OWN):
        return {INPUT: 0, OUTPUT: 2, OWN: 3}[section.title]
    if section.is_shared:
        return 5 + SHARED.index(section.title)
    return 1 if section.flags[0].is_input else 4


def help_wanted(name: str, arguments: list[str]) -> Flag | None:
    """Return which help a command line asks for, if it asks for one; a flag's value asks for nothing."""
    flags = {
        word: flag
        for flag in (*flags_of(flat_parameters(tool_module(name).main)[0]), HELP, HELP_ALL)
        for word in flag.names
    }
    is_value = False
    for word in arguments:
        if is_value:
            is_value = False
            continue
        flag = flags.get(word)
        if word == "--" or flag in (HELP, HELP_ALL):
            return flag
        is_value = flag is not None and flag.kind is not bool
    return None


def help_text(name: str, everything: bool, width: int | None) -> str:
    """Return the help of a tool; with `everything` each of its flags is explained."""
    width = min(max(width or COLUMNS, NARROWEST), COLUMNS)
    module = tool_module(name)
    about, sections = explained(module.__doc__ or ""), sections_of(module.main)
    if everything:
        return _assembled(name, about, about.examples, about.paragraphs, sections, len(sections), True, width)
    own = sum(not section.is_shared for section in sections)
    choices = [(about.paragraphs, own), (about.paragraphs[:1], own), *(([], count) for count in range(own, -1, -1))]
    for paragraphs, count in choices:
        text = _assembled(name, about, about.examples[:2], paragraphs, sections, count, False, width)
        if text.count("\n") < LINES:
            break
    return text


def _assembled(
    name: str,
    about: Explained,
    examples: list[str],
    paragraphs: list[str],
    sections: list[Section],
    explaining: int,
    everything: bool,
    width: int,
) -> str:
    """Return help in which the first `explaining` sections are explained, and the flags of the others are named."""
    lines = [wrapped(_usage(name, sections), width, later=" " * 8), "", wrapped(about.line, width)]
    if examples:
        lines += ["", "Examples:", *(textwrap.indent(command, "    ") for command in examples)]
    for paragraph in paragraphs:
        lines += ["", wrapped(paragraph.replace("\n", " "), width)]
    label = min(LABEL, max(len(label_of(flag)) for section in sections for flag in section.flags))
    for section in sections[:explaining]:
        lines += ["", f"{section.title}:", *(_explained(flag, label, everything, width) for flag in section.flags)]
    if everything:
        lines += ["", "Help:", *(_explained(flag, label, everything, width) for flag in (HELP, HELP_ALL))]
        return "\n".join(lines)
    lines += ["", f"More flags (drtools {name} --help-all explains them):"]
    titles = max((len(section.title) for section in sections[explaining:]), default=0)
    for section in sections[explaining:]:
        names = " ".join(_long_name(flag) for flag in section.flags)
        lines.append(wrapped(f"  {section.title.ljust(titles)}  {names}", width, later=" " * (titles + 4)))
    return "\n".join(lines)


def _usage(name: str, sections: list[Section]) -> str:
    """Return how the tool is called, with what it cannot do without."""
    needed = [flag for section in sections for flag in section.flags if flag.is_required or not flag.names]
    named = [label_of(flag).split(", ")[0 if len(flag.names) < 2 else -1] for flag in needed if flag.names]
    given = [label_of(flag) if flag.is_required else f"[{label_of(flag)}]" for flag in needed if not flag.names]
    return " ".join([f"usage: drtools {name}", *named, *given, "[FLAGS]"])


def _long_name(flag: Flag) -> str:
    return next((name for name in flag.names if name.startswith("--")), flag.parameter.upper())


def label_of(flag: Flag) -> str:
    """Return a flag's names with what stands for its value, or an argument's name."""
    if not flag.names:
        name = flag.metavar.strip("[]") or flag.parameter.upper()
        one = f"{name[:-3]}Y" if name.endswith("IES") else name.removesuffix("S")
        return f"{one} ..." if flag.many else name
    return names_of(flag) + (f" {value_of(flag)}" if flag.kind is not bool else "")


def names_of(flag: Flag) -> str:
    """Return a flag's names: `-o, --output`, or a flag with its opposite: `--with-x / --without-x`."""
    return (" / " if flag.kind is bool and flag.default is not False else ", ").join(flag.names)


def value_of(flag: Flag) -> str:
    """Return what stands for a flag's value."""
    if flag.choices:
        return flag.metavar or "|".join(flag.choices)
    if flag.kind is not str:
        return "N" if flag.kind is int else "X"
    return "OUT" if flag.parameter == "output" else "MODEL" if flag.is_model else "PATH" if flag.is_input else "TEXT"


def _explained(flag: Flag, room: int, everything: bool, width: int) -> str:
    """Return a flag with its help and its default; with `everything` its bounds too."""
    facts = "; ".join(facts_of(flag, everything))
    words = f"{flag.help} ({facts})" if facts else flag.help
    label = label_of(flag)
    first = f"  {label.ljust(room)}  " if len(label) <= room else f"  {label}\n{' ' * (room + 4)}"
    lines = textwrap.wrap(words, width - room - 4, break_long_words=False, break_on_hyphens=False)
    return first + f"\n{' ' * (room + 4)}".join(lines)


def facts_of(flag: Flag, everything: bool) -> Iterator[str]:
    """Yield what a flag's help adds: whether it is required, its default; with `everything` its bounds too."""
    if flag.is_required:
        yield "required"
    if flag.default is not None and flag.default is not False and flag.default != "":
        yield "default: a space" if flag.default == " " else f"default: {flag.default}"
    least, most = flag.bounds
    if everything and (least is not None or most is not None):
        bounds = (f"{least:g} or more" if most is None else f"{most:g} or less") if None in (least, most) else None
        yield bounds or f"{least:g} to {most:g}"
    if everything and flag.many and flag.names:
        yield "can be repeated"
