"""The work queue. One key never runs twice at once; repeats collapse into one rerun; different keys run in
parallel; urgent keys go first, but only by a head start, so that nothing waits for ever.

`Schedule` is the pure part, with time as a parameter; `WorkQueue` puts a lock and a wait around it.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.model.spec import Key

HEAD_START = 5.0
"""Seconds by which an urgent key goes before one that was due at the same time."""

IDLE_SECONDS = 30.0
"""A worker without work looks up at least so often: so idle is told from stuck."""


SLOW_SECONDS = 1.0
"""A key that once ran for so long is left to the workers that take everything."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What a reconcile need look at. Hints only say where to look; what is there decides.

    `paths` are (source root, path relative to it); a directory stands for all below it.
    """

    whole: bool = False
    paths: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: Hints) -> Hints:
        if self.whole or other.whole:
            return WHOLE
        return Hints(False, self.paths | other.paths)

    @property
    def empty(self) -> bool:
        return not (self.whole or self.paths)


WHOLE = Hints(whole=True)


@dataclass(frozen=True, slots=True)
class _Due:
    at: float
    rank: float  # orders what is due: smaller first
    hints: Hints


@dataclass(slots=True)
class Schedule:
    """Which key is due when."""

    _waiting: dict[Key, _Due] = field(default_factory=dict)
    _running: dict[Key, Hints | None] = field(default_factory=dict)
    _begun: dict[Key, float] = field(default_factory=dict)
    _slow: set[Key] = field(default_factory=set)
    _rerun_at: dict[Key, float] = field(default_factory=dict)
    # Heaps over _waiting; an entry that no longer matches it is stale and dropped when met.
    _later: list[tuple[float, Key]] = field(default_factory=list)
    _ready: list[tuple[float, Key]] = field(default_factory=list)

    def add(
        self, key: Key, now: float, *, delay: float = 0.0, hints: Hints = Hints(), urgent: bool = False
    ) -> None:
        """Due after `delay`, or earlier if it already was; hints add up."""
        at = now + delay
        if key in self._running:
            self._rerun_at[key] = min(at, self._rerun_at.get(key, at))
            self._running[key] = (self._running[key] or Hints()) | hints
            return
        rank = at - HEAD_START if urgent else at
        before = self._waiting.get(key)
        if before is not None:
            at, rank, hints = min(at, before.at), min(rank, before.rank), hints | before.hints
        self._waiting[key] = _Due(at, rank, hints)
        if before is None or (at, rank) != (before.at, before.rank):
            heapq.heappush(self._later, (at, key))

    def pop(self, now: float, *, quick: bool = False) -> tuple[Key, Hints] | None:
        """The most urgent key that is due, marked as running; with `quick` none that is known to be slow."""
        while self._later and self._later[0][0] <= now:
            _, key = heapq.heappop(self._later)
            if key in self._waiting:
                heapq.heappush(self._ready, (self._waiting[key].rank, key))
        found, left = None, []
        while self._ready and found is None:
            rank, key = heapq.heappop(self._ready)
            entry = self._waiting.get(key)
            if entry is None or entry.rank != rank or entry.at > now:
                continue
            if quick and key in self._slow:
                left.append((rank, key))
                continue
            del self._waiting[key]
            self._running[key], self._begun[key] = None, now
            found = key, entry.hints
        for other in left:
            heapq.heappush(self._ready, other)
        return found

    def done(self, key: Key, now: float = 0.0) -> None:
        """The run ended; what was added meanwhile becomes one rerun."""
        hints = self._running.pop(key)
        if now - self._begun.pop(key) >= SLOW_SECONDS:
            self._slow.add(key)
        at = self._rerun_at.pop(key, None)
        if at is not None:
            self.add(key, at, hints=hints or Hints(), urgent=True)

    @property
    def ready(self) -> bool:
        """Something may be due that `pop` has not given away."""
        return bool(self._ready)

    def next_due(self) -> float | None:
        return -math.inf if self._ready else self.next_later()

    def next_later(self) -> float | None:
        """When the next of those that are not due yet will be."""
        while self._later and self._later[0][1] not in self._waiting:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def busy(self, key: Key, now: float) -> bool:
        waiting = self._waiting.get(key)
        return key in self._running or (waiting is not None and waiting.at <= now)

    def idle(self, now: float) -> bool:
        """Nothing runs and nothing is due."""
        due = self.next_due()
        return not self._running and (due is None or due > now)

    def forget(self, key: Key) -> None:
        self._waiting.pop(key, None)
        self._slow.discard(key)

    def depth(self, now: float) -> int:
        return sum(1 for entry in self._waiting.values() if entry.at <= now)


class WorkQueue:
    """`Schedule` for threads. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._schedule = Schedule()
        self._changed = threading.Condition()
        self._stopped = False

    def add(self, key: Key, *, delay: float = 0.0, hints: Hints = Hints(), urgent: bool = False) -> None:
        with self._changed:
            self._schedule.add(key, self._clock(), delay=delay, hints=hints, urgent=urgent)
            self._changed.notify()

    def get(self, *, quick: bool = False) -> tuple[Key, Hints] | None:
        """Wait for a key that is due; None when the queue was stopped. With `quick` slow ones are left to the
        others."""
        with self._changed:
            while not self._stopped:
                found = self._schedule.pop(self._clock(), quick=quick)
                if found is not None:
                    return found
                if quick and self._schedule.ready:
                    self._changed.notify()  # we may have been woken for what another has to take
                due = self._schedule.next_later() if quick else self._schedule.next_due()
                left = IDLE_SECONDS if due is None else max(0.0, due - self._clock())
                self._changed.wait(min(IDLE_SECONDS, left))
            return None

    def done(self, key: Key) -> None:
        with self._changed:
            self._schedule.done(key, self._clock())
            self._changed.notify()

    def forget(self, key: Key) -> None:
        with self._changed:
            self._schedule.forget(key)

    def busy(self, key: Key) -> bool:
        """It is being reconciled, or due to be."""
        with self._changed:
            return self._schedule.busy(key, self._clock())

    def idle(self) -> bool:
        with self._changed:
            return self._schedule.idle(self._clock())

    def depth(self) -> int:
        with self._changed:
            return self._schedule.depth(self._clock())

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
