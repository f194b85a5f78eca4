"""What to write, and what becomes of what is there already."""

from dataclasses import dataclass, field
from typing import Any, TypedDict


class Request(TypedDict, total=False):
    """What identifies a command: the tool, its arguments with inputs as fingerprints, what a version changed of it."""

    tool: str
    arguments: dict[str, Any]
    changes: list[str]


@dataclass(frozen=True)
class OutputSpec:
    """An output, and the request that it answers.

    `overwrite` starts afresh and replaces what is there. `renew` replaces what another request made, and keeps or
    continues what this one made.
    """

    output: str
    overwrite: bool = False
    renew: bool = False
    request: Request = field(default_factory=Request, init=False)
