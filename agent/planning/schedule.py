"""Times of a cron expression, in the wall-clock time of a zone. Pure; instants are Unix seconds.

Five fields with Debian's meaning, or one of the names in `ALIASES`. Where the clock is put forward, a time of
day that does not exist is taken at the first moment after the gap; where it is put back, a time of day that
exists twice is taken once, the first time. Expressions of every so many minutes or hours go by elapsed time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_FIELDS = "minute, hour, day of month, month, day of week"
_MAX_LENGTH = 200
_SOME_DAY = 1_700_000_000.0


def schedule_problem(expression: str) -> str:
    """What is wrong with an expression, for a person; empty when nothing is."""
    text = expression.strip()
    if text.startswith("@"):
        return "" if text.lower() in ALIASES else f"`{text[:40]}` is not one of {', '.join(ALIASES)}"
    fields = len(text[:_MAX_LENGTH].split())
    if len(text) > _MAX_LENGTH or fields != 5:
        found = "is too long" if len(text) > _MAX_LENGTH else f"has {fields} fields"
        return f"{found}; write five ({_FIELDS}), for example `0 2 * * *`, or a name such as `@daily`"
    try:
        if next_time(text, "UTC", _SOME_DAY) is None:
            return f"`{text}` is a time that never comes"
    except CronSimError as error:
        which = str(error).removeprefix("Bad ").replace("-", " ")
        return f"`{text}` has a wrong {which}; the fields are {_FIELDS}, for example `0 2 * * mon-fri`"
    return ""


@lru_cache(maxsize=20_000)
def next_time(expression: str, timezone: str, after: float) -> float | None:
    """The first time of the expression later than `after`; None when there is none within fifty years."""
    text = expression.strip()
    zone = ZoneInfo(timezone)
    found = CronSim(ALIASES.get(text.lower(), text), datetime.fromtimestamp(after, zone))
    for time in found:
        instant = time.astimezone(UTC).timestamp()
        if instant > after:  # within the hour that comes twice, the library goes on from the first one
            return instant
    return None


def is_due(expression: str, timezone: str, looked_at: float, now: float) -> bool:
    """Whether a time has come since the last look; several that were missed are one."""
    due = next_time(expression, timezone, looked_at)
    return due is not None and due <= now
