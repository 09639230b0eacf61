"""Which transfers of a link are open at its receiver: enough to have something to send, and not all of them.

A receiver holds a directory for each that is open, and opening takes it a moment. So those that wait are
opened one after the other, in each lane in the order in which they will be sent; who is called off, or more
urgent, does not wait for the opening of thousands. Where opening or ending takes longer than sending, what is
opened is what lanes share: they take turns by the bytes of it, as they do when it is sent. Pure; the link
guards it with its lock.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agent.server.data.work import ENTRY_COST

UNANSWERED = 64  # that the receiver is asked to open at once
OPEN_IN_LANE = 512  # that have something to send in a lane, but for those that go before all of them
ENDING = 512  # that have nothing left to send and have not ended: the receiver has enough to do
MOST = 8000  # in all; a receiver takes 10,000 of a session
COMPACT = 64  # outdated entries that are tolerated before a heap is rebuilt

MOST_WORK = 1 << 20  # bytes that an opening counts for: who has more to send waits for no opening

_Entry = tuple[int, int, str]  # priority, number, transfer


@dataclass(slots=True)
class _Known:
    lane: _Lane
    rank: tuple[int, int]  # priority, number: the scheduler's order
    work: int  # bytes that it counts for
    entry: _Entry | None = None  # in its lane's heap, while it waits
    ending: bool = False  # it has nothing left to send


class _Lane:
    def __init__(self) -> None:
        self.inverse = 0.0  # 1/share; 0 for the idle lane
        self.clock = 0.0  # of bytes/share that were opened
        self.ready = False  # whether it was the last time that somebody's turn was looked for
        self.waiting: list[_Entry] = []  # a heap, with outdated entries
        self.open = 0
        self.ending = 0  # of those that are open
        self.priorities = Counter[int]()  # of those that are open

    def count(self, priority: int, change: int, *, ending: bool) -> None:
        self.open += change
        self.ending += change * ending
        self.priorities[priority] += change
        if not self.priorities[priority]:
            del self.priorities[priority]


class Openings:
    def __init__(self, lanes: Sequence[tuple[str, float]]) -> None:
        """`lanes` are (name, share) pairs."""
        self._known: dict[str, _Known] = {}
        self._lanes: dict[str, _Lane] = {}
        self._clock = 0.0  # where the lane whose turn it was last stood before
        self._unanswered: set[str] = set()
        self._open = 0
        self._ending = 0
        self.set_lanes(lanes)

    def set_lanes(self, lanes: Sequence[tuple[str, float]]) -> None:
        """Replace the shares. Lanes that are gone must have no transfers."""
        self._lanes = {name: self._lanes.get(name) or _Lane() for name, _ in lanes}
        for name, share in lanes:
            self._lanes[name].inverse = 1.0 / share if share else 0.0

    def add(self, ident: str, lane: str, priority: int, number: int, size: int) -> None:
        """`size`: bytes that there are to send, about."""
        work = ENTRY_COST + min(max(0, size), MOST_WORK)
        self._known[ident] = _Known(self._lanes[lane], (priority, number), work)
        self._wait(ident)

    def update(self, ident: str, lane: str, priority: int) -> None:
        known = self._known[ident]
        is_open = self.asked(ident)
        if is_open:
            self._count(known, -1)
        known.lane, known.rank = self._lanes[lane], (priority, known.rank[1])
        if is_open:
            self._count(known, 1)
        else:
            self._wait(ident)

    def remove(self, ident: str) -> None:
        if self.asked(ident):
            self._count(self._known[ident], -1)
            self._unanswered.discard(ident)
        self._known.pop(ident, None)

    def ending(self, ident: str, nothing_left: bool) -> bool:
        """Whether one has nothing left to send; returns whether that is new."""
        known = self._known[ident]
        if nothing_left == known.ending or not self.asked(ident):
            return False
        self._count(known, -1)
        known.ending = nothing_left
        self._count(known, 1)
        return True

    def asked(self, ident: str) -> bool:
        """Whether the receiver was asked to open it in this session."""
        known = self._known.get(ident)
        return known is not None and known.entry is None

    def answered(self, ident: str) -> None:
        self._unanswered.discard(ident)

    def begin(self) -> None:
        """A session begins, in which nothing is open."""
        self._unanswered, self._open, self._ending = set(), 0, 0
        for lane in self._lanes.values():
            lane.waiting, lane.open, lane.ending, lane.priorities = [], 0, 0, Counter()
        for ident, known in self._known.items():
            known.ending = False
            self._wait(ident)

    def next(self) -> str | None:
        """The one to be opened now, if any; it counts as asked for."""
        if len(self._unanswered) >= UNANSWERED or self._open >= MOST:
            return None
        ready: list[tuple[float, int, _Lane, str]] = []  # clock, order, lane, the first that waits
        for lane in self._lanes.values():
            ident = self._first(lane)
            if ident is not None:
                if not lane.ready:
                    lane.clock = max(lane.clock, self._clock)  # who was absent has no credit
                ready.append((lane.clock if lane.inverse else math.inf, len(ready), lane, ident))
            lane.ready = ident is not None
        return self._take(*min(ready)[2:]) if ready else None

    def _take(self, lane: _Lane, ident: str) -> str:
        heapq.heappop(lane.waiting)
        known = self._known[ident]
        known.entry = None
        if lane.inverse:
            self._clock = max(self._clock, lane.clock)
            lane.clock += known.work * lane.inverse
        self._count(known, 1)
        self._unanswered.add(ident)
        return ident

    def _first(self, lane: _Lane) -> str | None:
        """Of those that wait in a lane, if there is room for it."""
        while lane.waiting:
            if self._holds(lane.waiting[0]):
                priority, _, ident = lane.waiting[0]
                room = self._ending < ENDING and lane.open - lane.ending < OPEN_IN_LANE
                return ident if room or not lane.open or priority < min(lane.priorities) else None
            heapq.heappop(lane.waiting)
        return None

    def _count(self, known: _Known, change: int) -> None:
        """One that is open is there, or is there no more."""
        self._open += change
        self._ending += change * known.ending
        known.lane.count(known.rank[0], change, ending=known.ending)

    def _holds(self, entry: _Entry) -> bool:
        """Whether an entry is not outdated."""
        known = self._known.get(entry[2])
        return known is not None and known.entry is entry

    def _wait(self, ident: str) -> None:
        known = self._known[ident]
        known.entry = (*known.rank, ident)
        waiting = known.lane.waiting
        heapq.heappush(waiting, known.entry)
        if len(waiting) > 2 * len(self._known) + COMPACT:
            waiting[:] = [entry for entry in waiting if self._holds(entry)]
            heapq.heapify(waiting)
