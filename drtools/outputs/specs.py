"""Specifications of outputs and requests."""

from dataclasses import dataclass, field
from typing import Any, TypedDict


class Request(TypedDict, total=False):
    """What identifies a command: the tool, its arguments with fingerprints of inputs, and changes between versions."""

    tool: str
    arguments: dict[str, Any]
    changes: list[str]


@dataclass(frozen=True)
class OutputSpec:
    """An output, and the request that makes it.

    `overwrite` starts afresh and replaces an existing output. `renew` replaces the output of another request, and keeps
    or continues the output of this one.
    """

    output: str
    overwrite: bool = False
    renew: bool = False
    request: Request = field(default_factory=Request, init=False)
