"""Messages in the words of the command line: parameters are shown as the flags of the running tool."""

from collections.abc import Iterable, Mapping
from inspect import Parameter
from typing import get_args

from typer.models import OptionInfo

from drtools.errors import names_in


def worded(text: str, flags: Mapping[str, str]) -> str:
    """Return a message with each parameter as a flag: one of `flags`, else its name with two dashes before it."""
    return names_in(text, lambda name: flags.get(name, usual_flag(name)))


def usual_flag(name: str) -> str:
    """Return the flag of most parameters of a name."""
    return f"--{name.replace('_', '-')}"


def flags_of(parameters: Iterable[Parameter]) -> dict[str, str]:
    """Return the flags of a tool's parameters that are not as usual: `batch_queries` is `--batch-documents`."""
    found = {}
    for parameter in parameters:
        for option in get_args(parameter.annotation)[1:]:
            words = [word for word in getattr(option, "param_decls", None) or () if word.startswith("--")]
            if isinstance(option, OptionInfo) and words and words[0] != usual_flag(parameter.name):
                found[parameter.name] = words[0]
    return found
