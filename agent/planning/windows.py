"""Windows of the day: what holds at an instant, and until when. Pure; time is Unix seconds.

A window is meant in the wall-clock time of its zone. Where the clock is put forward, a time that does not
exist is taken as that much later; where it is put back, a window begins at the first and ends at the second
of two equal times. So a change of the clock never cuts a limit short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from agent.model.spec import DestinationSpec, Overrun, Window

LOOK_AHEAD_DAYS = 8
"""A week and the day on which the present one began: every window has a boundary within."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class InForce:
    """What the windows say at one instant."""

    send_rate_max: float | None = None  # kbit/s; None = no window limits it
    pause: bool = False
    overrun: Overrun = Overrun.FINISH  # of the pause; `suspend` when one of several says so
    until: float | None = None  # the next instant at which any window begins or ends; None = there is none


def in_force(windows: Iterable[Window], now: float) -> InForce:
    """The strictest of all windows that are open at `now`: a pause before a rate, the lowest rate."""
    rates: list[float] = []
    pauses: list[Overrun] = []
    boundaries: list[float] = []
    for window in windows:
        for start, end in _intervals(window, now):
            boundaries += [edge for edge in (start, end) if edge > now]
            if start <= now < end and window.pause:
                pauses.append(window.overrun)
            elif start <= now < end and window.send_rate_max is not None:
                rates.append(window.send_rate_max)
    return InForce(
        send_rate_max=min(rates, default=None),
        pause=bool(pauses),
        overrun=Overrun.SUSPEND if Overrun.SUSPEND in pauses else Overrun.FINISH,
        until=min(boundaries, default=None),
    )


def limited(destination: DestinationSpec, now: float) -> DestinationSpec:
    """The destination with the rate that holds at `now`."""
    rates = (destination.send_rate_max, in_force(destination.windows, now).send_rate_max)
    return replace(destination, send_rate_max=min((rate for rate in rates if rate is not None), default=None))


def _intervals(window: Window, now: float) -> Iterator[Interval]:
    """The openings of a window around `now`, as instants."""
    zone = ZoneInfo(window.timezone)
    today = datetime.fromtimestamp(now, zone).date()
    for offset in range(-2, LOOK_AHEAD_DAYS + 1):
        day = today + timedelta(days=offset)
        if day.weekday() in window.days:
            last = day + timedelta(days=1) if window.end <= window.start else day
            start = _instant(day, window.start, zone, fold=0)
            end = _instant(last, window.end, zone, fold=1)
            if start < end:
                yield start, end


def _instant(day: date, minute: int, zone: ZoneInfo, fold: int) -> float:
    """`minute` of the day, up to 24:00."""
    day, minute = (day + timedelta(days=1), 0) if minute == 24 * 60 else (day, minute)
    local = datetime.combine(day, time(minute // 60, minute % 60), zone)
    return local.replace(fold=fold).astimezone(UTC).timestamp()
