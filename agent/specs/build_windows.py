"""Windows of a Destination document -> the typed ones."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.model.spec import Overrun, Window
from agent.model.units import parse_rate
from agent.specs.build_server import Path, Report

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def build_windows(given: list[dict[str, Any]], fail: Report) -> tuple[Window, ...]:
    return tuple(_window(window, ("spec", "windows", at), fail) for at, window in enumerate(given))


def _window(given: dict[str, Any], path: Path, fail: Report) -> Window:
    zone = given.get("timezone", "UTC")
    if not is_zone(zone):
        fail((*path, "timezone"), f"`{zone}` is not a time zone; write for example Europe/Paris")
        zone = "UTC"
    days = parse_days(given.get("days", "mon-sun"))
    if days is None:
        fail((*path, "days"), "must be days such as `mon-fri` or `sat,sun`")
    if given["from"] == "24:00":
        fail((*path, "from"), "a window that begins at 24:00 begins at 00:00 of the next day; write that")
    if given.get("pause") is False:
        fail((*path, "pause"), "must be true; a window without a pause has a `sendRateMax`")
    return Window(
        days=days or (),
        start=_minute(given["from"]) % (24 * 60),
        end=_minute(given["to"]),
        timezone=zone,
        send_rate_max=parse_rate(given["sendRateMax"]) if "sendRateMax" in given else None,
        pause=given.get("pause", False),
        overrun=Overrun(given.get("overrun", Overrun.SUSPEND)),
    )


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def parse_days(text: str) -> tuple[int, ...] | None:
    """`mon-fri,sun` -> (0, 1, 2, 3, 4, 6); a range may go over the end of the week. None when it is wrong."""
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            return None
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 if dash else 0
        found |= {(start + offset) % 7 for offset in range(length + 1)}
    return tuple(sorted(found))


def is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
