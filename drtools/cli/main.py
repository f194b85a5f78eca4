"""The command line: the list of tools, dispatch, shared flags, exit statuses, pipes and signals. Written once.

A tool is a module of `drtools.tools`: its docstring is its help and the signature of its `main` its flags.
A parameter whose type is a dataclass is expanded into that dataclass's fields, so that shared flags are declared once.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import inspect
import os
import signal
import sqlite3
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from drtools import reporting, signals
from drtools.cli import console
from drtools.cli.terminal import terminal_width, wrapped
from drtools.errors import AlreadyDone, GateRefused, Terminated, UserError, WorldError
from drtools.ranks import world_size

if TYPE_CHECKING:
    from typer.core import TyperCommand

TOOLS = Path(__file__).parents[1] / "tools"
LEAST_PANELS = 90  # columns: in fewer, the boxes of --help cut long flags


def tool_names() -> list[str]:
    """Return the tools' names as a user types them, in alphabetical order."""
    return sorted(path.stem.replace("_", "-") for path in TOOLS.glob("[a-z]*.py"))


def first_line(name: str) -> str:
    """Return the first line of a tool's docstring, read without importing the tool."""
    source = (TOOLS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n", 1)[0]


def _list_tools() -> str:
    rows = [(f"  {name}", first_line(name)) for name in tool_names()]
    first, width = max(len(name) for name, _ in rows), terminal_width(sys.stdout)
    lines = [wrapped(f"{name.ljust(first)}  {line}", width, later=" " * (first + 2)) for name, line in rows]
    return "\n".join(["usage: drtools TOOL [FLAGS ...]      drtools TOOL --help", "", *lines])


def _flat_parameters(function: Callable) -> tuple[list[inspect.Parameter], dict[str, type]]:
    """Return a tool's parameters with each dataclass replaced by its fields, and the dataclasses by parameter name."""
    from drtools.cli.flags.common import ConsoleFlags

    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {}
    flat: list[inspect.Parameter] = []
    parameters = [*inspect.signature(function).parameters.values()]
    for parameter in parameters:
        kind = hints[parameter.name]
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            flat.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = kind
        flat += _fields_as_parameters(kind, parameter.default)
    groups["console_flags"] = ConsoleFlags
    flat += _fields_as_parameters(ConsoleFlags, inspect.Parameter.empty)
    return flat, groups


def _fields_as_parameters(kind: type, given: object) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(kind, include_extras=True)
    parameters = []
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        if given is not inspect.Parameter.empty:
            default = getattr(given, field.name)
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])
        )
    return parameters


def command_of(name: str, function: Callable, help_text: str) -> Callable[[], None]:
    """Return a function with the flat signature of a tool, which fills the dataclasses and calls it."""
    from drtools.cli.flags.common import checked_request, pinned_values

    flat, groups = _flat_parameters(function)

    @functools.wraps(function)
    def call(**values: Any) -> None:
        console.configure(name, values["quiet"], values["log_json"], values["strict"])
        if world_size() > 1 and "save_every_minutes" not in values:
            raise UserError(
                f"{name} is one process's work, and {world_size()} were started; trainings alone take "
                "several, start this without torchrun (encode and teacher-score take every GPU by --device cuda:all)"
            )
        values = pinned_values(flat, values)
        request = checked_request(name, flat, values)
        arguments: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters:
            kind = groups.get(parameter)
            if kind is None:
                arguments[parameter] = values[parameter]
                continue
            arguments[parameter] = kind(
                **{field.name: values[field.name] for field in dataclasses.fields(kind) if field.init}
            )
            if hasattr(kind, "request"):
                arguments[parameter].request = request
        function(**arguments)

    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]  # typeshed lacks what inspect reads
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    paragraphs = inspect.cleandoc(help_text).split("\n\n")
    call.__doc__ = "\n\n".join(
        "\b\n" + part if part.startswith("    ") else " ".join(part.split("\n")) for part in paragraphs
    )  # \b keeps the lines of an example apart
    del call.__wrapped__
    return call


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"drtools.tools.{name.replace('-', '_')}")


@functools.cache
def command(name: str) -> "TyperCommand":
    """Return a tool as a command.

    Its parameters, which `--help` and the documentation list, and what parses and runs it.
    """
    import typer

    module = _module(name)
    application = typer.Typer(
        add_completion=False,
        rich_markup_mode="rich" if (terminal_width(sys.stdout) or 0) >= LEAST_PANELS else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.command()(command_of(name, module.main, module.__doc__ or ""))
    return cast("TyperCommand", typer.main.get_command(application))  # of one function, which is no group


def _check_given_once(name: str, arguments: list[str]) -> None:
    """Raise UserError for a flag of one value that was given twice, of which only the last would count."""
    parsed = command(name)
    context = parsed.make_context(name, [], resilient_parsing=True)
    _, _, order = parsed.make_parser(context).parse_args(list(arguments))
    if any(parameter.name == "help" for parameter in order):
        return
    for parameter in dict.fromkeys(order):
        is_flag = getattr(parameter, "is_flag", True)  # arguments have no such word, and a flag may be repeated
        takes_one = not is_flag and not parameter.multiple
        if takes_one and order.count(parameter) > 1:
            raise UserError(
                f"{parameter.opts[-1]} was given {order.count(parameter)} times, and takes one value; leave all but "
                "one out"
            )


def _invoke(name: str, arguments: list[str]) -> None:
    import typer

    _check_given_once(name, arguments)
    try:
        status = command(name).main(args=arguments, prog_name=f"drtools {name}", standalone_mode=False)
    except typer.TyperException as error:
        quotes = (
            "; what has spaces, as a question has, goes into quotes"
            if "extra argument" in error.format_message()
            else ""
        )
        raise UserError(f"{error.format_message()}{quotes} (drtools {name} --help lists the flags)") from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    if status == 130:  # typer takes an interrupt for an exit, in silence
        raise KeyboardInterrupt
    reporting.check_strict()
    console.say_notices()
    sys.stdout.flush()


def _say_internal_error(kind: type[BaseException], error: BaseException, traceback: object) -> None:
    console.error(f"internal error, a bug of drtools: {kind.__name__}: {error} (DRTOOLS_DEBUG=1 shows where)")


def _status_of(error: BaseException, arguments: Sequence[str] = ()) -> int:
    """Say why the tool ends, in one line, and return its exit status; an error that is not known here is raised on."""
    if isinstance(error, AlreadyDone):
        reporting.say(str(error))
        return 0
    if isinstance(error, UserError):
        console.error(str(error))
        return 2
    if isinstance(error, GateRefused):
        console.error(str(error))
        return 3
    if isinstance(error, KeyboardInterrupt | Terminated):
        again = (
            "the same command with --renew in place of --overwrite"
            if "--overwrite" in arguments
            else "the same command again"
        )
        console.error(f"stopped; {again} continues what can be continued")
        return 130 if isinstance(error, KeyboardInterrupt) else 143
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes standard output once more at its end
        return 128 + signal.SIGPIPE
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        console.error(
            f"{where}{error.strerror or error}; nothing finished was changed, the same command again continues"
        )
        return 1
    if isinstance(error, WorldError | sqlite3.OperationalError):
        console.error(str(error))
        return 1
    if isinstance(error, sqlite3.DatabaseError):
        from drtools.outputs.manifest import cache_path

        console.error(f"a file of the cache is damaged ({error}); remove {cache_path()}, what it holds is made again")
        return 1
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "can't allocate memory" in str(error):
        console.error(
            f"out of memory ({str(error).splitlines()[0] if str(error) else 'no details'}); try a smaller "
            "--batch-tokens, in a training --gradient-caching"
        )
        return 1
    raise error


def main(arguments: list[str] | None = None) -> None:
    """Run one tool, named by the first argument, and exit with its status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "DRTOOLS_COMPLETE" in os.environ:
        from drtools.cli import completion

        print(
            completion.answer(
                arguments,
                {name: first_line(name) for name in tool_names()},
                lambda name: _flat_parameters(_module(name).main)[0],
            )
        )
        return
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_list_tools())
        return
    if arguments[0] == "--version":
        from drtools import __version__

        print(f"drtools {__version__}")
        return
    console.configure("drtools")
    if arguments[0] not in tool_names():
        near = difflib.get_close_matches(arguments[0].lower().replace("_", "-"), tool_names(), n=3)
        console.error(
            f"no tool is named {arguments[0]!r}; "
            + (
                f"did you mean {' or '.join(near)}? drtools by itself lists all"
                if near
                else f"the tools are: {', '.join(tool_names())}"
            )
        )
        raise SystemExit(2)
    console.configure(arguments[0])
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # threads that wait do not spin: on a shared machine they would take its cores from those that work
    signals.listen()
    debugging = os.environ.get("DRTOOLS_DEBUG") == "1"
    if not debugging:
        sys.excepthook = _say_internal_error
    try:
        _invoke(arguments[0], arguments[1:])
    except (Exception, KeyboardInterrupt, Terminated) as error:
        if debugging and not isinstance(error, AlreadyDone):
            import traceback

            traceback.print_exc()
        raise SystemExit(_status_of(signals.behind(error), arguments)) from None
