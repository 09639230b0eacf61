"""Was the wall clock set? What waits for a length of time then moves with it; what waits for a time of day is
looked at again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

TOLERANCE = 2.0
"""Seconds by which the two clocks may drift apart between two looks without being noticed."""


@dataclass(slots=True)
class WallClock:
    """For any thread."""

    _offset: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, wall: float, monotonic: float, was_set: Callable[[float], None]) -> None:
        """Calls `was_set` with the seconds by which it was set since the last look, before any other look
        returns. The machine's sleep counts: the monotonic clock stands then, so that what waits for a length
        of time waits longer, never shorter."""
        with self._lock:
            before, self._offset = self._offset, wall - monotonic
            if before is not None and abs(self._offset - before) > TOLERANCE:
                was_set(self._offset - before)
