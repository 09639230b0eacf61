"""Whole looks by the clock, `trigger.schedule`: is one due, when is the next, what does a start leave out.

The time of the last look is kept, so that times which pass while no agent runs, or while the delivery is
suspended or its destination unreachable, are made up for by one look. A clock that was set back counts from
then on; at worst one time comes twice, which costs a look.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from agent.model.spec import MappingSpec, digest
from agent.planning.schedule import is_due, next_time
from agent.reconcile.context import Context
from agent.reconcile.delivery import Memory
from agent.reconcile.queue import Hints
from agent.state.turns import Turn


def remembered(context: Context, spec: MappingSpec, destination: str, once: bool) -> Memory:
    """What a delivery begins with when the agent starts: a whole look, except where the schedule alone
    decides, the spec is as it was at the last look, and everything that was begun has ended. An agent that
    makes one pass (`once`) always looks."""
    memory = Memory()
    if once or spec.trigger.interval is not None:
        return memory
    last = context.state.turns.last(spec.name, destination)
    begun = context.state.attempts.of(spec.name, destination)
    if last is None or last.spec_digest != digest(spec) or begun:
        return memory
    memory.pending, memory.spec_digest, memory.survey_due = Hints(), last.spec_digest, math.inf
    memory.files = context.state.ledger.count(spec.name, destination)
    memory.bytes = context.state.ledger.total_bytes(spec.name, destination)
    return memory


def interval_of(spec: MappingSpec) -> float:
    """Seconds between whole looks; infinite where the schedule alone decides."""
    return math.inf if spec.trigger.interval is None else spec.trigger.interval


def turn_is_due(context: Context, spec: MappingSpec, destination: str) -> bool:
    if spec.trigger.schedule is None:
        return False
    last, now = context.state.turns.last(spec.name, destination), context.clock.time()
    if last is None:
        return False  # the first whole look is due anyway
    if last.at > now:
        context.state.turns.record(spec.name, destination, last._replace(at=now))
        return False
    return is_due(spec.trigger.schedule, spec.trigger.timezone, last.at, now)


def looked(context: Context, spec: MappingSpec, destination: str) -> None:
    """A whole look was taken, for whatever reason."""
    if spec.trigger.schedule is not None:
        turn = Turn(context.clock.time(), digest(spec))
        context.state.turns.record(spec.name, destination, turn)


def next_turn(context: Context, spec: MappingSpec) -> float | None:
    """Unix seconds of the next time of the schedule."""
    trigger = spec.trigger
    if trigger.schedule is None:
        return None
    return next_time(trigger.schedule, trigger.timezone, float(math.floor(context.clock.time())))


def turn_document(context: Context, spec: MappingSpec) -> dict[str, Any]:
    """For the status document; empty without a schedule."""
    if spec.trigger.schedule is None:
        return {}
    said = {"expression": spec.trigger.schedule, "timezone": spec.trigger.timezone}
    return {"schedule": {**said, "next": next_turn(context, spec)}}


def turn_text(context: Context, spec: MappingSpec) -> str:
    """`; next look …`, in the time of the schedule's zone."""
    coming = next_turn(context, spec)
    if coming is None:
        return ""
    zone = spec.trigger.timezone
    return f"; next look {datetime.fromtimestamp(coming, ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"
