"""Requests: records of a tool's flags with which two commands can be compared."""

import os
from collections.abc import Iterator, Sequence
from inspect import Parameter
from pathlib import Path
from typing import get_args

from drtools.cli.flags.common import INPUTS, Role
from drtools.errors import InputError, param
from drtools.formats.lines import STANDARD_INPUT, local, recorded_name
from drtools.outputs import manifest
from drtools.outputs.disk import is_standard_output
from drtools.outputs.specs import Request
from drtools.outputs.versions import current_version, pinned
from drtools.units import readable


def _recorded(name: str, value: object, role: Role | None) -> object:
    """Return a flag's value as a request records it; raise InputError for a missing input."""
    if isinstance(value, list | tuple):
        return [_recorded(name, item, role) for item in value]
    if role is Role.SOURCE and isinstance(value, str) and value != "-" and not Path(value).exists():
        return {"path": readable(value)}
    if role in (Role.INPUT, Role.UPDATED, Role.STREAM, Role.SOURCE) and isinstance(value, str):
        path = Path(local(value))
        if not path.exists():
            raise InputError(f"no such file or folder ({param(name)})", where=value)
        return {"path": readable(recorded_name(value)), "fingerprint": manifest.checked_fingerprint(path)}
    if role is Role.MODEL and isinstance(value, str):
        named = {"path": readable(value)}
        return {**named, "fingerprint": manifest.fingerprint(value)} if Path(value).is_dir() else named
    return readable(value) if isinstance(value, str) else value


def _role(parameter: Parameter) -> Role | None:
    roles = [item for item in get_args(parameter.annotation)[1:] if isinstance(item, Role)]
    return roles[0] if roles else None


def _check_target(output: str) -> None:
    """Raise InputError for a path where no output can be written."""
    target = Path(output)
    if not output:
        raise InputError("found an empty name", where="-o ''", remedy="name the output itself, as in -o out")
    if target.name in ("", ".."):
        raise InputError(
            "names an existing folder", where=f"-o {output}", remedy="name the output itself, as in -o out"
        )


def _inputs_of(parameters: Sequence[Parameter], values: dict[str, object], roles: tuple[Role, ...]) -> Iterator[str]:
    """Yield the inputs of these roles as they were typed."""
    for parameter in parameters:
        value = values.get(parameter.name) if _role(parameter) in roles else None
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str):
                yield item


def _check_inputs(output: str, inputs: list[str]) -> None:
    """Raise InputError for inputs that the output would replace, and if standard input is named twice."""
    if sum(value in STANDARD_INPUT for value in inputs) > 1:
        raise InputError(
            "standard input was named for several inputs, but holds only one", remedy="write the others to files"
        )
    if is_standard_output(output):
        return
    target = Path(output).resolve()
    for value in inputs:
        if value in STANDARD_INPUT or not os.path.exists(value):  # the name of a model on the hub
            continue
        place = Path(value).resolve()
        if place == target or (target.exists() and os.path.samefile(value, target)):
            raise InputError(
                f"is the input {value}, which would be replaced", where=f"-o {output}", remedy="choose another -o"
            )
        if {target, target.with_name(f"{target.name}.partial")} & {*place.parents}:
            raise InputError(
                f"holds the input {value}, which would be replaced with it",
                where=f"-o {output}",
                remedy="choose another -o",
            )


def pinned_values(parameters: Sequence[Parameter], values: dict[str, object]) -> dict[str, object]:
    """Return the flags' values with each published link in an input replaced by its current version.

    Raises InputError for an output that is such a link (versions never change), that cannot be written, or that is an
    input.
    """
    output = str(values.get("output", "-"))
    if not is_standard_output(output):
        _check_target(output)
    _check_inputs(output, list(_inputs_of(parameters, values, (Role.INPUT, Role.STREAM, Role.MODEL, Role.SOURCE))))
    if current_version(Path(output)):
        raise InputError("a published link", where=values["output"], remedy="write to another -o, then publish that")
    seen: dict[Path, Path] = {}

    def pin(value: object) -> object:
        if isinstance(value, list | tuple):
            return type(value)(pin(item) for item in value)
        return pinned(value, seen) if isinstance(value, str) else value

    inputs = {parameter.name for parameter in parameters if _role(parameter) in INPUTS}
    return {name: pin(value) if name in inputs else value for name, value in values.items()}


def checked_request(tool: str, parameters: Sequence[Parameter], values: dict[str, object]) -> Request:
    """Return the request of a command.

    It has the tool, every flag that can change its result, and the fingerprints of its inputs.
    """
    arguments = {}
    to_standard_output = is_standard_output(str(values.get("output", "-")))
    for parameter in parameters:
        role = _role(parameter)
        answered = role is Role.STREAM and values[parameter.name] in STANDARD_INPUT and to_standard_output
        if role is not Role.UNRECORDED and not answered:  # an output that is not kept needs no fingerprint
            arguments[parameter.name] = _recorded(parameter.name, values[parameter.name], role)
    return {"tool": tool, "arguments": arguments}
