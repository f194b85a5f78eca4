"""Messages for the command line, in which parameters are shown as flags of the running tool."""

from collections.abc import Collection, Mapping

from drtools.cli.tool_flags import FORMER_NAMES, Flag
from drtools.errors import names_in


def worded(text: str, flags: Mapping[str, str]) -> str:
    """Return a message with each parameter as a flag: the one in `flags`, or its name after two dashes."""
    return names_in(text, lambda name: flags.get(name, recorded_flag(name)))


def usual_flag(name: str) -> str:
    """Return the default flag of a parameter."""
    return f"--{name.replace('_', '-')}"


def recorded_flag(name: str) -> str:
    """Return the flag of a parameter in a manifest, which may be one of an earlier version: `lucene` is `--corpus`."""
    return FORMER_NAMES.get(usual_flag(name), usual_flag(name))


def unusual_flags(flags: Collection[Flag]) -> dict[str, str]:
    """Return the flags of a tool that are not the default ones, such as `--batch-documents` for `batch_queries`.

    An argument, which has no flag, is named as in the usage line: `FILE`.
    """
    shown = {flag.parameter: flag.names[-1] if flag.names else argument_name(flag) for flag in flags}
    opposite = {flag.parameter for flag in flags if usual_flag(flag.parameter) in flag.names}
    return {name: word for name, word in shown.items() if word != usual_flag(name) and name not in opposite}


def argument_name(flag: Flag) -> str:
    """Return an argument's name in capitals, without the brackets of its usage."""
    return (flag.metavar or flag.parameter.upper()).strip("[]. ")
