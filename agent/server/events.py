"""What changed, for those who wait: the event log behind `lanesync.waitEvents`, and local waiters.

Events are hints about an object, not states of it: repeats about one object collapse into the latest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MAX_EVENTS = 10_000

Key = tuple[str, int]


class EventLog:
    """Sequence numbers start anew at every launch, above those of any earlier one (`first` is taken from the
    clock), so that a cursor of an earlier launch is recognised."""

    def __init__(self, first: int) -> None:
        self._last = first
        self._floor = first  # events up to here are forgotten
        self._events: dict[Key, int] = {}  # in the order of their numbers
        self._woken: set[asyncio.Event] = set()
        self._waiters: dict[Key, set[asyncio.Event]] = {}

    def post(self, kind: str, object_id: int) -> None:
        """Something about the object changed. From the event loop only."""
        self._last += 1
        key = (kind, object_id)
        self._events.pop(key, None)
        self._events[key] = self._last
        if len(self._events) > MAX_EVENTS:
            oldest = next(iter(self._events))
            self._floor = self._events.pop(oldest)
        for event in self._woken:
            event.set()
        self.wake(kind, object_id)

    def wake(self, kind: str, object_id: int) -> None:
        """Wake local waiters alone; nothing that other processes are told."""
        for event in self._waiters.get((kind, object_id), ()):
            event.set()

    async def wait(self, after: int, timeout: float, limit: int) -> dict[str, object]:
        """Events numbered above `after`, oldest first, as soon as there are any; none at the time-out.
        `{"reset": true}` when `after` is not a number of this launch or what followed it is forgotten."""
        if not self._floor <= after <= self._last:
            return {"reset": True, "events": [], "next": self._last}
        if after == self._last and timeout > 0:
            woken = asyncio.Event()
            self._woken.add(woken)
            try:
                await asyncio.wait_for(woken.wait(), timeout)
            except TimeoutError:
                pass
            finally:
                self._woken.discard(woken)
        return self._since(after, limit)

    def _since(self, after: int, limit: int) -> dict[str, object]:
        if after < self._floor:
            return {"reset": True, "events": [], "next": self._last}
        found: list[dict[str, object]] = []
        for (kind, object_id), seq in reversed(self._events.items()):
            if seq <= after:
                break
            found.append({"seq": seq, "kind": kind, "id": str(object_id)})
        found.reverse()
        if len(found) > limit:
            found = found[:limit]
            return {"events": found, "next": found[-1]["seq"]}
        return {"events": found, "next": self._last}

    @asynccontextmanager
    async def watching(self, kind: str, object_id: int) -> AsyncIterator[asyncio.Event]:
        """An asyncio.Event that is set at each change of one object. Enter before reading its state."""
        key, changed = (kind, object_id), asyncio.Event()
        self._waiters.setdefault(key, set()).add(changed)
        try:
            yield changed
        finally:
            waiters = self._waiters[key]
            waiters.discard(changed)
            if not waiters:
                del self._waiters[key]
