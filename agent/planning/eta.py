"""How long sending will take: what the lane scheduler would do, played through on a virtual clock.

A range, because little of it is known. The lower end is the link with nothing else on it; the upper end has
all that is queued for the destination before and beside it, at the speed that deliveries usually had. What
changes on the way (windows, other senders, retries) is not foreseen. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.lanes.buckets import MAX_CHUNK, bytes_per_second
from agent.lanes.scheduler import Idle, LaneScheduler

STEPS = 5000
"""Grants that one play takes about; a piece is as large as that asks for."""

MAX_FLOWS = 20_000


class Flow(NamedTuple):
    mapping: str
    lane: str
    priority: int
    rate: float | None  # kbit/s of its own; None = no limit
    bytes: int  # that are left
    planned: bool  # asked about, not only in the way


@dataclass(frozen=True, slots=True)
class Link:
    """kbit/s: the limit of the destination, and what its newest deliveries had."""

    limit: float | None
    measured: tuple[float, ...] = ()

    @property
    def fastest(self) -> float | None:
        return self._bounded(max(self.measured, default=None))

    @property
    def usual(self) -> float | None:
        return self._bounded(statistics.median(self.measured) if self.measured else None)

    def _bounded(self, found: float | None) -> float | None:
        known = [rate for rate in (self.limit, found) if rate is not None]
        return min(known, default=None)

    @property
    def basis(self) -> str:
        """Where the numbers come from."""
        if self.limit is not None and self.measured:
            return "limit and past deliveries"
        return "limit" if self.limit is not None else "past deliveries" if self.measured else ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds; None = not known: neither a limit nor an earlier delivery tells how fast the link is."""

    best: float | None
    worst: float | None
    basis: str = ""


def estimate(lanes: Sequence[tuple[str, float]], link: Link, flows: tuple[Flow, ...]) -> dict[str, Estimate]:
    """When each planned mapping will have been sent to one destination."""
    names = dict.fromkeys(flow.mapping for flow in flows if flow.planned)
    known = link.usual is not None and len(flows) <= MAX_FLOWS
    worst = _play(lanes, link.usual, flows) if known else {}
    found = {}
    for name in names:
        mine = tuple(flow for flow in flows if flow.mapping == name and flow.planned)
        rate = link.fastest
        if any(flow.rate is None for flow in mine) and rate is None:
            found[name] = Estimate(None, None)
            continue
        alone = _play(lanes, rate, mine)
        low, high = alone.get(name, 0.0), worst.get(name)
        basis = link.basis or "limit"
        found[name] = Estimate(low, None if high is None else max(low, high), basis)
    return found


def _play(
    lanes: Sequence[tuple[str, float]], rate: float | None, flows: tuple[Flow, ...]
) -> dict[str, float]:
    """Seconds until each mapping's last planned byte. With a link of unknown speed only flows that have a
    limit of their own take time."""
    scheduler = LaneScheduler(lanes)
    seconds_per_byte = 0.0 if rate is None else 1.0 / bytes_per_second(rate)
    left = {str(number): flow.bytes for number, flow in enumerate(flows)}
    piece = max(MAX_CHUNK // 16, sum(left.values()) // STEPS)
    ends: dict[str, float] = {}
    now = 0.0
    for order, (name, flow) in enumerate(zip(left, flows, strict=True)):
        scheduler.add(name, flow.lane, flow.priority, order, flow.rate, now)
    while left:
        grant = scheduler.next(now)
        if isinstance(grant, Idle):
            if grant.until is None:
                break
            now = grant.until
            continue
        size = min(piece, left[grant.flow])
        now += size * seconds_per_byte
        scheduler.sent(grant.flow, size, now)
        left[grant.flow] -= size
        if left[grant.flow] <= 0:
            del left[grant.flow]
            scheduler.remove(grant.flow)
            flow = flows[int(grant.flow)]
            own = flow.bytes / bytes_per_second(flow.rate) if flow.rate is not None else 0.0
            if flow.planned:
                ends[flow.mapping] = max(ends.get(flow.mapping, 0.0), now, own)
    return ends
