"""Which flow sends next: weighted-fair lanes, strict priorities within a lane, token buckets for rates.

Lanes share by bytes in proportion to their shares (start-time fair queueing): every lane has a virtual
clock that advances by bytes/share, and the lane that is furthest behind goes next. A lane that was empty
takes up the clock of the others when it comes back, so it has no credit. A flow that its own rate holds back
counts as absent for that moment, so whatever can be sent is sent.

Not thread-safe. `now` is in seconds of any monotonic clock; rates are kbit/s.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from agent.lanes.buckets import MAX_CHUNK, TokenBucket
from agent.lanes.rules import validate_lanes

REBASE = 1e12
"""Virtual time beyond which all clocks are set back, so that floats keep their precision for ever."""

COMPACT = 64
"""Outdated heap entries that are tolerated before a heap is rebuilt."""


class Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""Default of `update`'s arguments, because None is a rate (no limit)."""


class Grant(NamedTuple):
    """`flow` may send up to `max_bytes` now. Nothing is reserved until `sent`."""

    flow: str
    max_bytes: int


class Idle(NamedTuple):
    """Nothing may be sent before `until`; None = nothing is queued, only a change can help."""

    until: float | None


class _Flow:
    __slots__ = ("bucket", "entry", "lane", "name", "order", "priority", "ready", "wake")

    def __init__(self, name: str, lane: _Lane, priority: int, order: int) -> None:
        self.name = name
        self.lane = lane
        self.priority = priority
        self.order = order
        self.bucket: TokenBucket | None = None
        self.ready = True
        self.entry: _Entry | None = None  # its valid entry in the lane's heap
        self.wake: _Wake | None = None  # its valid entry among the throttled


_Entry = tuple[int, int, int, _Flow]  # priority, order, serial, flow
_Wake = tuple[float, int, _Flow]  # when, serial, flow


class _Lane:
    """Invariant: the top of `heap` is valid, so that a non-empty heap means something to send."""

    __slots__ = ("clock", "flows", "heap", "inverse", "name", "outdated", "sent")

    def __init__(self, name: str) -> None:
        self.name = name
        self.inverse = 0.0  # 1/share; 0 for the idle lane
        self.clock = 0.0
        self.flows = 0  # all flows of the lane, also those that cannot send now
        self.sent = 0  # bytes, ever
        self.heap: list[_Entry] = []
        self.outdated = 0

    def discard(self, flow: _Flow) -> None:
        if flow.entry is None:
            return
        flow.entry = None
        self.outdated += 1
        if self.outdated > COMPACT and self.outdated * 2 > len(self.heap):
            self.heap = [entry for entry in self.heap if entry[3].entry is entry]
            heapq.heapify(self.heap)
            self.outdated = 0
        heap = self.heap
        while heap and heap[0][3].entry is not heap[0]:
            heapq.heappop(heap)
            self.outdated -= 1


class LaneScheduler:
    """Decides, grant by grant, which flow of one destination sends. O(log flows) a step."""

    def __init__(self, lanes: Sequence[tuple[str, float]], rate: float | None = None) -> None:
        """`lanes` are (name, share) pairs. Raises ValueError naming every rule they break."""
        self._lanes: dict[str, _Lane] = {}
        self._weighted: list[_Lane] = []
        self._idle: _Lane | None = None
        self._flows: dict[str, _Flow] = {}
        self._throttled: list[_Wake] = []
        self._serial = itertools.count()
        self._clock = 0.0  # virtual time: where the lane served last stood before it was served
        # Full at the first call that tells the time, whenever that is.
        self._total: TokenBucket | None = None if rate is None else TokenBucket(rate, float("-inf"))
        self.set_lanes(lanes, 0.0)

    def __len__(self) -> int:
        return len(self._flows)

    def __contains__(self, flow: str) -> bool:
        return flow in self._flows

    def lane_bytes(self) -> dict[str, int]:
        """What each lane has sent so far, headers included."""
        return {name: lane.sent for name, lane in self._lanes.items()}

    def set_lanes(self, lanes: Sequence[tuple[str, float]], now: float) -> None:  # noqa: ARG002
        """Replace all lanes; acts at the next step. Raises ValueError when they break a rule or when a lane
        that has flows would be gone; then nothing has changed."""
        errors = validate_lanes(lanes)
        names = {name for name, _ in lanes}
        lost = sorted(lane.name for lane in self._lanes.values() if lane.flows and lane.name not in names)
        errors += [
            f"lane {name!r} has transfers in progress and cannot be removed or renamed" for name in lost
        ]
        if errors:
            raise ValueError("; ".join(errors))
        self._lanes = {name: self._lanes.get(name) or _Lane(name) for name, _ in lanes}
        self._idle = None
        self._weighted = []
        for name, share in lanes:
            lane = self._lanes[name]
            lane.inverse = 1.0 / share if share else 0.0
            lane.clock = max(lane.clock, self._clock)
            if share:
                self._weighted.append(lane)
            else:
                self._idle = lane

    def set_rate(self, rate: float | None, now: float) -> None:
        """Limit of all flows together; acts at once. None = no limit."""
        if rate is None:
            self._total = None
        elif self._total is None:
            self._total = TokenBucket(rate, now)
        else:
            self._total.set_rate(rate, now)

    def add(self, flow: str, lane: str, priority: int, order: int, rate: float | None, now: float) -> None:
        """Queue a flow. Lower `priority` goes first, then lower `order`. Raises ValueError for an unknown
        lane, a flow that is there already, or a rate that is not positive."""
        if flow in self._flows:
            raise ValueError(f"flow {flow!r} is queued already")
        added = _Flow(flow, self._lane(lane), priority, order)
        if rate is not None:
            added.bucket = TokenBucket(rate, now)
        added.lane.flows += 1
        self._flows[flow] = added
        self._enqueue(added)

    def update(
        self,
        flow: str,
        now: float,
        *,
        lane: str | Unchanged = UNCHANGED,
        priority: int | Unchanged = UNCHANGED,
        rate: float | Unchanged | None = UNCHANGED,
    ) -> None:
        """Change what is given; acts at the next step. Raises KeyError for an unknown flow, ValueError as
        `add` does; then nothing has changed."""
        changed = self._flows[flow]
        new_lane = changed.lane if isinstance(lane, Unchanged) else self._lane(lane)
        if not isinstance(rate, Unchanged):
            if rate is None:
                changed.bucket = None
            elif changed.bucket is None:
                changed.bucket = TokenBucket(rate, now)
            else:
                changed.bucket.set_rate(rate, now)
        self._dequeue(changed)
        if not isinstance(priority, Unchanged):
            changed.priority = priority
        changed.lane.flows -= 1
        changed.lane = new_lane
        new_lane.flows += 1
        if changed.ready:
            self._enqueue(changed)

    def set_ready(self, flow: str, ready: bool) -> None:
        """Take a flow out of the running while it has nothing to send, and back; its rate is kept.
        Raises KeyError for an unknown flow."""
        changed = self._flows[flow]
        if ready == changed.ready:
            return
        changed.ready = ready
        if ready:
            self._enqueue(changed)
        else:
            self._dequeue(changed)

    def remove(self, flow: str) -> None:
        """Forget a flow. Gone already is no error."""
        removed = self._flows.pop(flow, None)
        if removed is not None:
            removed.ready = False
            removed.lane.flows -= 1
            self._dequeue(removed)

    def next(self, now: float) -> Grant | Idle:
        """What may be sent at `now`. Call `sent` for what is taken before asking again: a grant that is not
        accounted for is given again."""
        if self._throttled and self._throttled[0][0] <= now:
            self._release(now)
        best = None
        clock = 0.0
        for lane in self._weighted:
            if lane.heap and (best is None or lane.clock < clock):
                best = lane
                clock = lane.clock
        if best is None:
            best = self._idle
            if best is None or not best.heap:
                return Idle(self._throttled[0][0] if self._throttled else None)
        limit: float = MAX_CHUNK
        total = self._total
        if total is not None:
            total.refill(now)
            if total.tokens < total.quantum:
                return Idle(total.ready_at())
            limit = min(total.tokens, total.chunk)
        flow = best.heap[0][3]
        bucket = flow.bucket
        if bucket is not None:
            bucket.refill(now)
            limit = min(limit, bucket.tokens, bucket.chunk)
        return Grant(flow.name, int(limit))

    def sent(self, flow: str, nbytes: int, now: float, turn: int = 0) -> None:
        """Account for `nbytes` of `flow`, headers included. More than was granted is paid back over time.
        `turn`: as how many bytes it counts among the lanes, if those are more, because it kept the machine
        busy as long. A flow that was removed meanwhile still counts against the total. Raises ValueError if
        negative."""
        if nbytes < 0:
            raise ValueError(f"cannot have sent {nbytes} bytes")
        total = self._total
        if total is not None:
            total.refill(now)
            total.tokens -= nbytes
        served = self._flows.get(flow)
        if served is None:
            return
        lane = served.lane
        lane.sent += nbytes
        if lane.inverse:
            self._clock = max(self._clock, lane.clock)
            lane.clock += max(nbytes, turn) * lane.inverse
            if self._clock > REBASE:
                self._rebase()
        bucket = served.bucket
        if bucket is not None:
            bucket.refill(now)
            bucket.tokens -= nbytes
            if bucket.tokens < bucket.quantum and served.entry is not None:
                self._dequeue(served)
                self._enqueue(served)

    def _lane(self, name: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            known = ", ".join(repr(known) for known in self._lanes)
            raise ValueError(f"there is no lane {name!r}; the lanes are {known}")
        return lane

    def _enqueue(self, flow: _Flow) -> None:
        """Put a flow that is in no heap where it belongs: among the ready, or among the throttled."""
        bucket = flow.bucket
        if bucket is not None and bucket.tokens < bucket.quantum:
            flow.wake = (bucket.ready_at(), next(self._serial), flow)
            heapq.heappush(self._throttled, flow.wake)
            return
        lane = flow.lane
        if not lane.heap and lane.clock < self._clock:
            lane.clock = self._clock
        flow.entry = (flow.priority, flow.order, next(self._serial), flow)
        heapq.heappush(lane.heap, flow.entry)

    def _dequeue(self, flow: _Flow) -> None:
        flow.lane.discard(flow)
        if flow.wake is not None:
            flow.wake = None
            throttled = self._throttled
            while throttled and throttled[0][2].wake is not throttled[0]:
                heapq.heappop(throttled)
            if len(throttled) > COMPACT + 2 * len(self._flows):
                self._throttled = [wake for wake in throttled if wake[2].wake is wake]
                heapq.heapify(self._throttled)

    def _release(self, now: float) -> None:
        """Bring back the throttled flows whose time has come. The top of the throttled is always valid."""
        throttled = self._throttled
        while throttled and (throttled[0][0] <= now or throttled[0][2].wake is not throttled[0]):
            wake = heapq.heappop(throttled)
            flow = wake[2]
            if flow.wake is wake:
                flow.wake = None
                if flow.bucket is not None:
                    flow.bucket.refill(now)
                self._enqueue(flow)

    def _rebase(self) -> None:
        for lane in self._lanes.values():
            lane.clock = max(0.0, lane.clock - self._clock)
        self._clock = 0.0
