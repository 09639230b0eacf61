"""The settle rule: when has a file that was touched become ready to send? Pure; time is a parameter.

With `ready: closed` a writer's close, a rename-in and a removal are ready at once; everything else, and with
`ready: quiet` all, once unchanged for `settle`. A path that keeps changing waits on; past `max_wait` it is
overdue, which is said in a condition and changes nothing else.
"""

from __future__ import annotations

import heapq
from enum import Enum, auto

from agent.model.spec import Ready


class Touch(Enum):
    WRITTEN = auto()  # created, modified or its attributes changed: may go on
    CLOSED = auto()  # its writer closed it
    MOVED_IN = auto()  # appeared whole: a rename or a hard link
    EMPTY = auto()  # a new directory without content: it may be about to get some
    DELETED = auto()  # removed or renamed away
    DIRECTORY = auto()  # everything below may have changed


_AT_ONCE = frozenset({Touch.CLOSED, Touch.MOVED_IN, Touch.DELETED, Touch.DIRECTORY})


class Settle:
    """Not thread-safe. Seconds, on any clock that does not go back."""

    def __init__(self, ready: Ready, settle: float, max_wait: float) -> None:
        self._closed = ready is not Ready.QUIET  # a sentinel is looked for whenever a file is closed
        self._settle = settle
        self._max_wait = max_wait
        self._pending: dict[str, tuple[float, float]] = {}  # path -> (first touch, due)
        self._queue: list[tuple[float, str]] = []  # one entry a pending path, due then or later
        self._ready: dict[str, None] = {}

    def on_event(self, path: str, touch: Touch, now: float) -> None:
        if self._settle <= 0 or (self._closed and touch in _AT_ONCE):
            self._pending.pop(path, None)
            self._ready[path] = None
            return
        known = self._pending.get(path)
        due = now + self._settle
        self._pending[path] = (now if known is None else known[0], due)
        if known is None:
            heapq.heappush(self._queue, (due, path))

    def discard(self, path: str) -> None:
        """No longer of interest; unknown paths are harmless."""
        self._pending.pop(path, None)
        self._ready.pop(path, None)

    def due(self, now: float) -> tuple[str, ...]:
        """Paths that are ready; each is handed out once."""
        while self._queue and self._queue[0][0] <= now:
            _, path = heapq.heappop(self._queue)
            state = self._pending.get(path)
            if state is None:
                continue
            if state[1] <= now:
                del self._pending[path]
                self._ready[path] = None
            else:
                heapq.heappush(self._queue, (state[1], path))
        ready = tuple(self._ready)
        self._ready.clear()
        return ready

    def next_due(self) -> float | None:
        """When to call `due` next: at or before a path becomes ready. None = nothing is waiting."""
        if self._ready:
            return float("-inf")
        while self._queue and self._queue[0][1] not in self._pending:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    @property
    def waits(self) -> bool:
        """Is any path not ready yet?"""
        return bool(self._pending)

    def waiting(self) -> tuple[str, ...]:
        """Paths that are not ready yet."""
        return tuple(self._pending)

    def overdue(self, now: float) -> tuple[str, ...]:
        """Paths that have been changing for longer than `max_wait`."""
        return tuple(p for p, (first, _) in self._pending.items() if now - first > self._max_wait)

    def clear(self) -> None:
        """Drop everything: a scan of the whole tree covers it."""
        self._pending.clear()
        self._queue.clear()
        self._ready.clear()

    def __len__(self) -> int:
        return len(self._pending) + len(self._ready)
