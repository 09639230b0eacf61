"""Which transfers of a link are open at its receiver: enough to have something to send, and not all of them.

A receiver holds a directory for each that is open, and opening takes it a moment. So those that wait are
opened one after the other, in each lane in the order in which they will be sent; who is called off, or more
urgent, does not wait for the opening of thousands. Pure; the link guards it with its lock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from operator import attrgetter

UNANSWERED = 64  # that the receiver is asked to open at once
OPEN_IN_LANE = 512  # that are open in a lane, but for those that go before all of them
MOST = 8000  # in all; a receiver takes 10,000 of a session
COMPACT = 64  # outdated entries that are tolerated before a heap is rebuilt

_Entry = tuple[int, int, str]  # priority, number, transfer


@dataclass(slots=True)
class _Known:
    lane: _Lane
    rank: tuple[int, int]  # priority, number: the scheduler's order
    entry: _Entry | None = None  # in its lane's heap, while it waits


class _Lane:
    def __init__(self) -> None:
        self.waiting: list[_Entry] = []  # a heap, with outdated entries
        self.open = 0
        self.priorities = Counter[int]()  # of those that are open

    def count(self, priority: int, change: int) -> None:
        self.open += change
        self.priorities[priority] += change
        if not self.priorities[priority]:
            del self.priorities[priority]


class Openings:
    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._lanes: dict[str, _Lane] = {}
        self._unanswered: set[str] = set()
        self._open = 0

    def add(self, ident: str, lane: str, priority: int, number: int) -> None:
        self._known[ident] = _Known(self._lane(lane), (priority, number))
        self._wait(ident)

    def update(self, ident: str, lane: str, priority: int) -> None:
        known = self._known[ident]
        is_open = self.asked(ident)
        if is_open:
            known.lane.count(known.rank[0], -1)
        known.lane, known.rank = self._lane(lane), (priority, known.rank[1])
        if is_open:
            known.lane.count(priority, 1)
        else:
            self._wait(ident)

    def remove(self, ident: str) -> None:
        if self.asked(ident):
            known = self._known[ident]
            known.lane.count(known.rank[0], -1)
            self._open -= 1
            self._unanswered.discard(ident)
        self._known.pop(ident, None)

    def asked(self, ident: str) -> bool:
        """Whether the receiver was asked to open it in this session."""
        known = self._known.get(ident)
        return known is not None and known.entry is None

    def answered(self, ident: str) -> None:
        self._unanswered.discard(ident)

    def begin(self) -> None:
        """A session begins, in which nothing is open."""
        self._unanswered, self._open = set(), 0
        for lane in self._lanes.values():
            lane.waiting, lane.open, lane.priorities = [], 0, Counter()
        for ident in self._known:
            self._wait(ident)

    def next(self) -> str | None:
        """The one to be opened now, if any; it counts as asked for."""
        if len(self._unanswered) >= UNANSWERED or self._open >= MOST:
            return None
        for lane in sorted(self._lanes.values(), key=attrgetter("open")):  # who is served faster needs more
            ident = self._first(lane)
            if ident is not None:
                heapq.heappop(lane.waiting)
                self._known[ident].entry = None
                lane.count(self._known[ident].rank[0], 1)
                self._open += 1
                self._unanswered.add(ident)
                return ident
        return None

    def _first(self, lane: _Lane) -> str | None:
        """Of those that wait in a lane, if there is room for it."""
        while lane.waiting:
            if self._holds(lane.waiting[0]):
                priority, _, ident = lane.waiting[0]
                room = lane.open < OPEN_IN_LANE or priority < min(lane.priorities)
                return ident if room else None
            heapq.heappop(lane.waiting)
        return None

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

    def _lane(self, name: str) -> _Lane:
        if name not in self._lanes:
            self._lanes[name] = _Lane()
        return self._lanes[name]
