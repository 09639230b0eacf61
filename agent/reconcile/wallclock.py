"""Was the wall clock set? What waits for a time of day then waits for the wrong number of seconds."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 2.0
"""Seconds by which the two clocks may drift apart between two looks without being noticed."""


@dataclass(slots=True)
class WallClock:
    _offset: float | None = None

    def was_set(self, wall: float, monotonic: float) -> bool:
        """Whether it was since the last call. The machine's sleep counts: the monotonic clock stands then."""
        before, self._offset = self._offset, wall - monotonic
        return before is not None and abs(self._offset - before) > TOLERANCE
