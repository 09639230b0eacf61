"""Whose files are submitted next on a link: lanes by their shares, priorities within a lane. Pure state.

Every lane has a clock that runs by files/share, and the lane that is furthest behind goes next; one that
comes back has no credit. Since a place in the window is given only when another file is through, what goes
through is shared like what is submitted, whatever order the service works in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Lane = tuple[int, str]
"""(destination, lane name): each destination has lanes of its own."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Files of one transfer that wait on one link."""

    transfer: int
    lane: Lane
    priority: int
    waiting: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.priority, self.transfer


@dataclass(slots=True)
class Turns:
    """Of one link."""

    _clocks: dict[Lane, float] = field(default_factory=dict)
    _now: float = 0.0  # where the lane served last stood before it was served
    _before: frozenset[Lane] = frozenset()

    def choose(self, queues: Sequence[Queue], shares: Mapping[Lane, float]) -> Queue | None:
        """The next one, or None when nothing waits. A lane with a share of 0 goes when no other wants to."""
        lanes = {queue.lane for queue in queues}
        for lane in lanes - self._before:
            self._clocks[lane] = max(self._clocks.get(lane, 0.0), self._now)
        self._before = frozenset(lanes)
        self._clocks = {lane: self._clocks[lane] for lane in lanes}
        weighted = [lane for lane in lanes if shares.get(lane, 0.0) > 0]
        if weighted:
            best = min(weighted, key=lambda lane: (self._clocks[lane], lane))
            return min((q for q in queues if q.lane == best), key=lambda q: q.rank)
        return min(queues, key=lambda q: q.rank, default=None)

    def took(self, lane: Lane, files: int, share: float) -> None:
        """Account for files that were submitted from a lane that was chosen."""
        if share > 0:
            self._now = max(self._now, self._clocks.get(lane, 0.0))
            self._clocks[lane] = self._clocks.get(lane, self._now) + files / share
