"""What an update drops: rows of the earlier folder whose ids the new input does not have.

A day's delivery that is given for the whole corpus looks like any other corpus. It is recognized by what it lacks.
"""

import math
from collections.abc import Iterable
from itertools import islice

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.joins import Join, KnownIds
from drtools.units import counted

ALLOW_DROPPED = 0.1  # [ours] share of the earlier rows that an update may drop
IDS_AT_ONCE = 10_000


def check_dropped(
    folder: str, count: int, ids: Iterable[str], known: KnownIds, name: str, allowed: float, noun: str = "document"
) -> None:
    """Report how many of the `count` rows of an earlier folder are dropped.

    Raises InputError for more than a share `allowed`.

    `ids` are those of the rows that may be gone, `known` the ids of the new input, which is called `name`.
    """
    found, left = Join(known, name), iter(ids)
    while some := list(islice(left, IDS_AT_ONCE)):
        found.look_up(some)
    if not found.missing:
        return
    many = "queries" if noun == "query" else f"{noun}s"
    words = f"{found.missing:,} of its {counted(count, f'{noun} is', f'{many} are')} not in {name}"
    share = found.missing / count
    if not share <= allowed:
        raise InputError(
            f"{words} and would be dropped {found.pair()}",
            where=folder,
            expected=f"a share of at most {allowed:g}",
            remedy=f"pass all {many} and not only the new ones, or {param('allow_dropped')} "
            f"{math.ceil(share * 100) / 100:g}",
        )
    reporting.notice(found.missing, f"{folder}: {words} and are dropped")
