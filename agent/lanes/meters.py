"""A rate measured over the last second; pure, on virtual time."""

from __future__ import annotations

SLOTS = 10
WINDOW_SECONDS = 1.0
_SLOT_SECONDS = WINDOW_SECONDS / SLOTS


class Meter:
    """Counts bytes in slots of a tenth of a second. `now` is in seconds of any monotonic clock."""

    __slots__ = ("_at", "_slots", "total")

    def __init__(self) -> None:
        self._slots = [0] * (SLOTS + 1)  # the present one, and those of a whole second before it
        self._at = 0
        self.total = 0
        """All bytes ever counted."""

    def add(self, nbytes: int, now: float) -> None:
        self._advance(now)
        self._slots[self._at % len(self._slots)] += nbytes
        self.total += nbytes

    def rate(self, now: float) -> float:
        """kbit/s over the last full second, rounded to a tenth of it at either end."""
        self._advance(now)
        present = self._slots[self._at % len(self._slots)]
        return (sum(self._slots) - present) / WINDOW_SECONDS / 125.0

    def _advance(self, now: float) -> None:
        slot = int(now / _SLOT_SECONDS)
        for passed in range(max(self._at + 1, slot - SLOTS), slot + 1):
            self._slots[passed % len(self._slots)] = 0
        self._at = max(self._at, slot)
