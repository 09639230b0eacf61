"""What changed, for those who wait: the event log behind `lanesync.waitEvents`, and local waiters.

Events are hints about an object, not states of it: repeats about one object collapse into the latest. Who
does not see everything is told of what is in its scope; of what is gone the log keeps whose it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent.server.store.scope import Owned

MAX_EVENTS = 10_000

Key = tuple[str, int]
See = Callable[[dict[Key, Owned | None]], Awaitable[set[Key]]]
"""Which of these a caller sees; the row is known of what is gone."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """Who waits for what comes after `after`: of these kinds, or of any."""

    after: int
    kinds: frozenset[str] | None
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, kind: str) -> bool:
        return self.kinds is None or kind in self.kinds


class EventLog:
    """Sequence numbers start anew at every launch, above those of any earlier one (`first` is taken from the
    clock), so that a cursor of an earlier launch is recognised."""

    def __init__(self, first: int) -> None:
        self._last = first
        self._floor = first  # events up to here are forgotten
        self._events: dict[Key, tuple[int, Owned | None]] = {}  # in the order of their numbers
        self._waiting: set[_Waiter] = set()
        self._waiters: dict[Key, set[asyncio.Event]] = {}

    def post(self, kind: str, object_id: int, gone: Owned | None = None) -> None:
        """Something about the object changed; `gone`: what it was, when it is no more. From the event loop
        only."""
        self._last += 1
        key = (kind, object_id)
        _, known = self._events.pop(key, (0, None))
        self._events[key] = (self._last, gone or known)
        if len(self._events) > MAX_EVENTS:
            oldest = next(iter(self._events))
            self._floor, _ = self._events.pop(oldest)
        for waiter in self._waiting:
            if waiter.wants(kind):
                waiter.woken.set()
            elif not waiter.woken.is_set():
                waiter.after = self._last  # however much passes it by, it has missed nothing
        self.wake(kind, object_id)

    def wake(self, kind: str, object_id: int) -> None:
        """Wake local waiters alone; nothing that other processes are told."""
        for event in self._waiters.get((kind, object_id), ()):
            event.set()

    async def wait(
        self,
        after: int,
        timeout: float,
        limit: int,
        see: See | None = None,
        kinds: frozenset[str] | None = None,
    ) -> dict[str, object]:
        """Events numbered above `after`, oldest first, as soon as there are any of these `kinds` that the
        caller may `see`; none at the time-out. `{"reset": true}` when `after` is not a number of this launch
        or what followed it is forgotten."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if not self._floor <= after <= self._last:
            return {"reset": True, "events": [], "next": self._last}
        while True:
            after = await self._until_after(_Waiter(after, kinds), deadline - loop.time())
            if after < self._floor:
                return {"reset": True, "events": [], "next": self._last}
            found, last = self._since(after, kinds), self._last
            if see is not None and found:
                seen = await see({key: gone for key, _, gone in found})
                found = [event for event in found if event[0] in seen]
            if found or loop.time() >= deadline:
                break
            after = last
        told = [{"seq": seq, "kind": key[0], "id": str(key[1])} for key, seq, _ in found[:limit]]
        return {"events": told, "next": found[limit - 1][1] if len(found) > limit else last}

    async def _until_after(self, waiter: _Waiter, timeout: float) -> int:
        """Until there is something to look at; what it is to be looked for after."""
        if waiter.after < self._last or timeout <= 0:
            return waiter.after
        self._waiting.add(waiter)
        try:
            await asyncio.wait_for(waiter.woken.wait(), timeout)
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(waiter)
        return waiter.after

    def _since(self, after: int, kinds: frozenset[str] | None) -> list[tuple[Key, int, Owned | None]]:
        found: list[tuple[Key, int, Owned | None]] = []
        for key, (seq, gone) in reversed(self._events.items()):
            if seq <= after:
                break
            if kinds is None or key[0] in kinds:
                found.append((key, seq, gone))
        found.reverse()
        return found

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
