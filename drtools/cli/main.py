"""The command line: the list of tools, dispatch, shared flags, exit statuses, pipes and signals.

A tool is a module of `drtools.tools`: its docstring is its help and the signature of its `main` its flags.
A parameter whose type is a dataclass is expanded into that dataclass's fields, so that shared flags are declared once.
"""

import ast
import atexit
import difflib
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drtools import __version__, reporting, signals
from drtools.cli import console, streams
from drtools.cli.commands import command, flat_parameters, tool_module
from drtools.cli.config import with_config
from drtools.cli.exits import exit_status
from drtools.cli.groups import BEGIN, grouped
from drtools.cli.habits import habit_hint
from drtools.cli.help import HELP_ALL, help_text, help_wanted
from drtools.cli.terminal import terminal_width, wrapped
from drtools.cli.tool_flags import flags_of, shown_name
from drtools.errors import AlreadyDone, InputError, Terminated

if TYPE_CHECKING:
    from typer.core import TyperCommand

TOOLS = Path(__file__).parents[1] / "tools"


def tool_names() -> list[str]:
    """Return the tools' names as a user types them, in alphabetical order."""
    return sorted(path.stem.replace("_", "-") for path in TOOLS.glob("[a-z]*.py"))


def first_line(name: str) -> str:
    """Return the first line of a tool's docstring, read without importing the tool."""
    source = (TOOLS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n", 1)[0]


def _list_tools() -> str:
    width, first = terminal_width(sys.stdout), max(map(len, tool_names())) + 2
    lines = ["usage: drtools TOOL [FLAGS ...]      drtools TOOL --help", "", "Begin with:"]
    commands = max(map(len, BEGIN)) + 2
    lines += [
        wrapped(f"  {command.ljust(commands)}{reason}", width, later=" " * 4) for command, reason in BEGIN.items()
    ]
    for title, names in grouped(tool_names()).items():
        lines += ["", f"{title}:"] if names else []
        lines += [wrapped(f"  {name.ljust(first)}{first_line(name)}", width, later=" " * (first + 2)) for name in names]
    return "\n".join(lines)


def _check_given_once(name: str, arguments: list[str]) -> None:
    """Raise InputError for a flag with one value that was given twice, since only the last would count."""
    parsed = command(name)
    context = parsed.make_context(name, [], resilient_parsing=True)
    _, _, order = parsed.make_parser(context).parse_args(list(arguments))
    for parameter in dict.fromkeys(order):
        is_flag = getattr(
            parameter, "is_flag", True
        )  # arguments have no such attribute, and some flags may be repeated
        takes_one = not is_flag and not parameter.multiple
        if takes_one and order.count(parameter) > 1:
            raise InputError(
                f"{shown_name(parameter.opts)} was given {order.count(parameter)} times, but takes one value",
                remedy="leave all but one out",
            )


def _invoke(name: str, arguments: list[str]) -> None:
    wanted = help_wanted(name, arguments)
    if wanted:  # before typer parses anything, which takes it longer than the help
        return print(help_text(name, wanted == HELP_ALL, terminal_width(sys.stdout)))
    import typer

    arguments = with_config(name, arguments, flags_of(flat_parameters(tool_module(name).main)[0]))
    parsed = command(name)
    _check_given_once(name, arguments)
    try:
        # not typer's `main`, which silently exits on a broken pipe and an interrupt
        with parsed.make_context(f"drtools {name}", list(arguments)) as context:
            parsed.invoke(context)
    except typer.TyperException as error:
        quotes = (
            "; put a value with spaces, such as a question, in quotes"
            if "extra argument" in error.format_message()
            else ""
        )
        hint = _hint_for(error, parsed)
        raise InputError(hint or f"{error.format_message()}{quotes} (drtools {name} --help lists the flags)") from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    reporting.check_strict()
    console.say_notices()


def _hint_for(error: Exception, parsed: "TyperCommand") -> str | None:
    """Return what to use in place of a flag that a tool does not have but users know."""
    unknown = getattr(error, "option_name", None) if type(error).__name__ == "NoSuchOption" else None
    return habit_hint(unknown, {name for each in parsed.params for name in each.opts}) if unknown else None


def _say_internal_error(kind: type[BaseException], error: BaseException, traceback: object) -> None:
    """Report an uncaught error. A signal that arrives while a tool is ending is not an error, and ends it as usual."""
    stopped = signals.came()
    if stopped and (kind is KeyboardInterrupt or issubclass(kind, Terminated)):
        os._exit(exit_status(stopped))
    console.error(f"internal error, a bug in drtools: {kind.__name__}: {error} (DRTOOLS_DEBUG=1 shows where)")


def _collect_seldom() -> None:
    """Look for reference cycles seldom.

    Importing torch and transformers makes 600,000 objects that stay. At Python's own threshold of 700 new objects, the
    collector walks through them again and again, and once more at the exit.
    """
    gc.set_threshold(100_000, 20, 10)
    atexit.register(gc.freeze)


def main(arguments: list[str] | None = None) -> None:
    """Run one tool, named by the first argument, and exit with its status."""
    _collect_seldom()
    arguments = sys.argv[1:] if arguments is None else arguments
    streams.prepare()
    console.configure("drtools")
    debugging = os.environ.get("DRTOOLS_DEBUG") == "1"
    if not debugging:
        sys.excepthook = _say_internal_error
    try:
        _answer(arguments)
        sys.stdout.flush()  # a full disk or a closed pipe raises its error here, not at interpreter exit
        signals.end(0)
    except (Exception, KeyboardInterrupt, Terminated) as raised:
        error = signals.behind(raised)
        if isinstance(error, KeyboardInterrupt | Terminated):
            signals.end(signals.status_of(error))
        if debugging and not isinstance(error, AlreadyDone):
            import traceback

            traceback.print_exc()
        raise SystemExit(exit_status(error, arguments)) from None


def _answer(arguments: list[str]) -> None:
    """Run the request of a command line."""
    if "DRTOOLS_COMPLETE" in os.environ:
        from drtools.cli import completion

        print(
            completion.answer(
                arguments,
                {name: first_line(name) for name in tool_names()},
                lambda name: flat_parameters(tool_module(name).main)[0],
            )
        )
    elif not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_list_tools())
    elif arguments[0] == "--version" or (arguments[0] in tool_names() and arguments[1:] == ["--version"]):
        print(f"drtools {__version__}")
    else:
        _run(arguments[0], arguments[1:])


def _run(name: str, arguments: list[str]) -> None:
    """Run a tool by its name."""
    if name not in tool_names():
        near = difflib.get_close_matches(name.lower().replace("_", "-"), tool_names(), n=3)
        raise InputError(
            f"no tool is named {name!r}; "
            + (
                f"did you mean {' or '.join(near)}? `drtools` without arguments lists all tools"
                if near
                else f"the tools are: {', '.join(tool_names())}"
            )
        )
    console.configure(name)
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # waiting threads must not spin, since on a shared machine they would take cores from working threads
    signals.listen()
    _invoke(name, arguments)
