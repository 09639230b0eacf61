"""What there is to measure of an agent, gathered at one moment from what it knows anyway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import agent
from agent.engines.port import LaneMeter
from agent.model.outcome import LaneSyncError
from agent.model.spec import Key, Kind
from agent.reconcile.agent import Agent
from agent.reconcile.context import Context
from agent.reconcile.delivered import Tally
from agent.reconcile.meters import Durations
from agent.reconcile.status import ObjectStatus
from agent.state.attempts import Load

MAX_DESTINATIONS = 1000
"""Most destinations whose lanes one look asks a server about."""


@dataclass(frozen=True, slots=True)
class LaneBytes:
    destination: str
    lane: str
    share: float  # asked for
    sent: int  # since the server started


@dataclass(frozen=True, slots=True)
class Measures:
    now: float  # Unix seconds
    version: str
    in_sync: bool
    revisions: dict[str, str]  # attempted, applied, held
    source: dict[str, Any]
    statuses: list[ObjectStatus]
    load: tuple[Load, ...]
    delivered: dict[tuple[str, str], Tally]
    ended: dict[tuple[str, str], int]  # attempts since the start, by operation and outcome
    lanes: list[LaneBytes]
    suspended: dict[Key, float]  # seconds
    queue_depth: int
    durations: dict[Kind, Durations]
    results: dict[tuple[Kind, str], int]
    longest_running: float  # seconds; 0 = nothing runs
    watched: dict[str, int] = field(default_factory=dict)  # directories, by mapping
    polled: dict[str, float] = field(default_factory=dict)  # seconds between scans, where that is needed
    stuck: int = 0  # threads


def measure(of: Agent) -> Measures:
    """LaneSyncError when the state cannot be read."""
    context = of.context
    now, unseen = context.clock.time(), of.unseen()
    statuses = of.statuses()
    running = context.meters.longest_running(context.clock.monotonic())
    watched, polled = _sources(of)
    return Measures(
        now=now,
        version=agent.__version__,
        in_sync=of.answer(unseen, statuses).state == "inSync",
        revisions=of.revisions(),
        source=of.source(),
        statuses=statuses,
        load=context.state.attempts.load(),
        delivered=context.delivered.all(),
        ended=context.state.attempts.ended(),
        lanes=list(lane_bytes(context)),
        suspended=dict(_suspended(statuses, now)),
        queue_depth=context.queue.depth(),
        durations=context.meters.durations(),
        results=context.meters.results(),
        longest_running=0.0 if running is None else running[1],
        watched=watched,
        polled=polled,
        stuck=len(of.stuck()),
    )


def _sources(of: Agent) -> tuple[dict[str, int], dict[str, float]]:
    """By mapping: directories that are watched; seconds between scans of the source that is most often
    scanned."""
    watched, polled = {}, {}
    for name, spec in list(of.context.desired.mappings.items()):
        found = of.sources.document(spec)
        watched[name] = sum(source["directories"] for source in found)
        if seconds := [source["pollSeconds"] for source in found if source["pollSeconds"] is not None]:
            polled[name] = min(seconds)
    return watched, polled


def _suspended(statuses: list[ObjectStatus], now: float) -> Iterator[tuple[Key, float]]:
    for status in statuses:
        for condition in status.conditions:
            if condition.type == "Suspended" and condition.status:
                yield status.key, max(0.0, now - condition.since)


def lane_bytes(context: Context, most: int = MAX_DESTINATIONS) -> Iterator[LaneBytes]:
    """Of the first destinations. A server that does not answer is left out."""
    for name, spec in list(context.desired.destinations.items())[:most]:
        connected = context.connected(spec.server)
        found = None if connected is None else context.destination_id(name, connected)
        if connected is None or found is None or not isinstance(connected.engine, LaneMeter):
            continue
        try:
            sent = connected.engine.lane_bytes(found)
        except LaneSyncError:
            continue
        for lane in context.desired.lanes_of(spec):
            yield LaneBytes(name, lane.name, lane.share, sent.get(lane.name, 0))
