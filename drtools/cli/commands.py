"""Turn a tool's function into a command: groups of flags become a flat signature, and are filled when it is called."""

import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from drtools.cli import console
from drtools.cli.flag_names import unusual_flags
from drtools.cli.flags.common import ConsoleFlags
from drtools.cli.request import checked_request, pinned_values
from drtools.cli.tool_flags import flags_of
from drtools.errors import InputError
from drtools.outputs.specs import OutputSpec
from drtools.process_ranks import world_size

if TYPE_CHECKING:
    from typer.core import TyperCommand


@functools.cache
def flat_parameters(function: Callable[..., Any]) -> tuple[tuple[inspect.Parameter, ...], Mapping[str, type]]:
    """Return a tool's parameters with each dataclass replaced by its fields, and the dataclasses by parameter name."""
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
    return tuple(flat), groups


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


def command_of(name: str, function: Callable[..., Any], help_text: str) -> Callable[[], None]:
    """Return a function with the flat signature of a tool, which fills the dataclasses and calls it."""
    flat, groups = flat_parameters(function)
    is_training = any(getattr(kind, "several_processes", False) for kind in groups.values())
    unusual = unusual_flags(flags_of(flat))

    @functools.wraps(function)
    def call(**values: Any) -> None:
        console.configure(name, values["quiet"], values["log_json"], values["strict"], unusual)
        if world_size() > 1 and not is_training:
            raise InputError(
                f"{name} runs in one process, but {world_size()} were started; only the training tools take several",
                remedy="run it without torchrun (encode and teacher-score use all GPUs with --device cuda:all)",
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
            if issubclass(kind, OutputSpec):
                arguments[parameter].request.update(request)
        function(**arguments)

    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]  # typeshed lacks it
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    call.__doc__ = help_text
    del call.__wrapped__
    return call


def tool_module(name: str) -> ModuleType:
    """Import the module of a tool."""
    return importlib.import_module(f"drtools.tools.{name.replace('-', '_')}")


@functools.cache
def command(name: str) -> "TyperCommand":
    """Return a tool as a command.

    The command has the parameters, which `--help` and the documentation list, and parses and runs a command line.
    """
    import typer

    module = tool_module(name)
    application = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help", "--help-all"]},
    )
    application.command()(command_of(name, module.main, module.__doc__ or ""))
    return cast("TyperCommand", typer.main.get_command(application))  # a single function is not a group
