"""A tool's flags and arguments as plain records, for `--help`, completion and the documentation."""

from collections.abc import Sequence
from inspect import Parameter
from types import NoneType
from typing import Literal, NamedTuple, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from drtools.cli.flags.common import INPUTS, Role

# names that flags had before, or have in other programs; commands that have them run, and no list of flags shows them
FORMER_NAMES = {
    "--lucene": "--corpus",
    "--documents": "--corpus",
    "--tune-measure": "--tune-on",
    "--measure": "--tune-on",
    "--against": "--baseline",
}


class Flag(NamedTuple):
    """A flag or, without `names`, an argument of a tool.

    `kind` is bool for a flag without a value; `choices` are all its values, if they are named. `bounds` are the least
    and the largest value. `panel` is the heading of its group, "" for the tool's own flags.
    """

    names: tuple[str, ...]
    kind: type
    choices: tuple[str, ...]
    many: bool
    help: str
    parameter: str = ""
    panel: str = ""
    is_input: bool = False
    is_model: bool = False
    is_required: bool = False
    default: object = None
    bounds: tuple[float | None, float | None] = (None, None)
    former_names: tuple[str, ...] = ()
    metavar: str = ""


def flags_of(parameters: Sequence[Parameter]) -> list[Flag]:
    """Return a tool's flags and arguments from its flat parameters, which have typer's annotations."""
    return [_flag(parameter) for parameter in parameters]


def _flag(parameter: Parameter) -> Flag:
    annotated, *notes = get_args(parameter.annotation)
    info = next(note for note in notes if isinstance(note, OptionInfo | ArgumentInfo))
    role = next((note for note in notes if isinstance(note, Role)), None)
    kinds = [kind for kind in get_args(annotated) if kind is not NoneType] if NoneType in get_args(annotated) else []
    taken = kinds[0] if kinds else annotated
    many = get_origin(taken) is list
    kind = get_args(taken)[0] if many else taken
    declared = [
        name
        for words in (info.default, *(info.param_decls or ()))  # typer keeps the first name as a default
        if isinstance(words, str)
        for name in words.split("/")  # a flag and its opposite
    ]
    names = [] if isinstance(info, ArgumentInfo) else declared or [f"--{parameter.name.replace('_', '-')}"]
    former = tuple(name for name in names[1:] if name in FORMER_NAMES)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Flag(
        names=tuple(name for name in names if name not in former),
        kind=str if choices else kind,
        choices=choices,
        many=many,
        help=info.help or "",
        parameter=parameter.name,
        panel=info.rich_help_panel or "",
        is_input=role in INPUTS,
        is_model=role is Role.MODEL,
        is_required=parameter.default is Parameter.empty,
        default=None if parameter.default is Parameter.empty else parameter.default,
        bounds=(info.min, info.max),
        former_names=former,
        metavar=info.metavar or "",
    )


def shown_name(names: Sequence[str]) -> str:
    """Return the name by which a flag is called: its long one, and not a former one."""
    return [name for name in names if name not in FORMER_NAMES or FORMER_NAMES[name] not in names][-1]
