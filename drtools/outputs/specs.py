"""What to write, and what becomes of what is there already."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OutputSpec:
    """An output, and the request that it answers.

    `overwrite` starts afresh and replaces what is there. `renew` replaces what another request made, and keeps or
    continues what this one made.
    """

    output: str
    overwrite: bool = False
    renew: bool = False
    request: dict[str, Any] = field(default_factory=dict, init=False)
