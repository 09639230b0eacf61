"""LaneSync's priorities, 0 to 4,294,967,295 and 0 first, as FTS3's, 5 to 1 and 5 first. Pure.

FTS3 is strict about priorities on each link, so only the coarse step is told to it, by decades around the
default of 100. Within a step our own window keeps the order: what is more urgent is submitted first.
"""

from __future__ import annotations

_STEPS = ((10, 5), (100, 4), (1_000, 3), (100_000, 2))
"""(below this priority, it is that for FTS3)"""

LOWEST = 1


def fts_priority(priority: int) -> int:
    """0–9 → 5, 10–99 → 4, 100–999 → 3 (FTS3's own default), 1,000–99,999 → 2, the rest → 1."""
    return next((step for below, step in _STEPS if priority < below), LOWEST)
