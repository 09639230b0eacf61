"""The `trigger` of a Mapping document -> the typed one."""

from __future__ import annotations

from typing import Any

from agent.model.spec import Ready, Trigger
from agent.model.units import parse_duration
from agent.planning.schedule import schedule_problem
from agent.specs.build_server import Path, Report
from agent.specs.build_windows import is_zone

_HERE: Path = ("spec", "trigger")


def build_trigger(given: dict[str, Any], fail: Report) -> Trigger:
    known = Trigger()
    watch, ready = given.get("watch", known.watch), given.get("ready", known.ready)
    alone = not watch and "schedule" in given and "interval" not in given
    trigger = Trigger(
        watch=watch,
        ready=Ready(ready) if isinstance(ready, str) else Ready.SENTINEL,
        settle=_duration(given, "settle", known.settle),
        max_wait=_duration(given, "maxWait", known.max_wait),
        interval=None if alone else _duration(given, "interval", known.interval or 0.0),
        sentinel=None if isinstance(ready, str) else _sentinel(ready["sentinel"], fail),
        schedule=given.get("schedule"),
        timezone=given.get("timezone", known.timezone),
        interval_written="interval" in given,
    )
    if trigger.settle > trigger.max_wait:
        fail((*_HERE, "settle"), "must not be longer than `maxWait`")
    return _scheduled(trigger, given, fail)


def _scheduled(trigger: Trigger, given: dict[str, Any], fail: Report) -> Trigger:
    if trigger.schedule is not None and (problem := schedule_problem(trigger.schedule)):
        fail((*_HERE, "schedule"), problem)
    if "timezone" in given and not is_zone(trigger.timezone):
        where = f"`{trigger.timezone}` is not a time zone; write for example Europe/Paris"
        fail((*_HERE, "timezone"), where)
    elif "timezone" in given and trigger.schedule is None:
        fail((*_HERE, "timezone"), "belongs to `schedule`, which is missing")
    return trigger


def _sentinel(name: str, fail: Report) -> str:
    if "/" in name or name in (".", "..", ".lanesync") or len(name.encode("utf-8", "surrogateescape")) > 255:
        fail((*_HERE, "ready", "sentinel"), "must be the plain name of a file, for example .done")
    return name


def _duration(given: dict[str, Any], key: str, default: float) -> float:
    return parse_duration(given[key]) if key in given else default
