"""What looks that found nothing to do have cost lately, and so how long it is to the next one."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

from agent.planning.pace import SPREAD_FROM, round_seconds, spread, stretched

REMEMBERED = 1000
"""So many looks make up the mean; older ones fade."""


@dataclass(slots=True)
class Pace:
    """One kind of look. `cost` is processor seconds of one; before the first, what it usually is on a small
    mapping. Thread-safe."""

    share: float
    cost: float
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, seconds: float) -> None:
        with self._lock:
            self._seen = min(self._seen + 1, REMEMBERED)
            self.cost += (seconds - self.cost) / self._seen

    def interval(self, given: float, looks: int) -> float:
        """Seconds between two looks at one of so many."""
        return stretched(given, looks, self.cost, self.share)

    def round(self, looks: int) -> float:
        """Seconds that looking at all of them once takes, within the share."""
        return round_seconds(looks, self.cost, self.share)

    def next(self, given: float, looks: int, *, first: bool) -> float:
        """Seconds to the next look; exactly as given while there are few of them."""
        interval = self.interval(given, looks)
        if self.round(looks) < SPREAD_FROM:
            return interval
        return spread(interval, random.random(), first=first)  # noqa: S311
