"""When a destination that does not let us in is tried again though nothing waits to be sent there.

While there is work its server dials by itself. Without any nobody would find out that the key or the account
has been mended: so the server is asked to try, with growing pauses, and at once when a person asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST, LAST, GROWTH = 5.0, 300.0, 2.0


@dataclass(slots=True)
class Knocks:
    """By destination, each of which has one worker. Times are monotonic seconds."""

    _next: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When the next one is due, and the pause that led there."""

    def due(self, destination: str, now: float, *, asked: bool) -> bool:
        """Whether to try now; then the pause until the next time grows."""
        at, pause = self._next.get(destination, (now, 0.0))
        if now < at and not asked:
            return False
        pause = FIRST if asked or not pause else min(LAST, pause * GROWTH)
        self._next[destination] = (now + pause, pause)
        return True

    def over(self, destination: str) -> None:
        """It lets us in, or is no more."""
        self._next.pop(destination, None)
