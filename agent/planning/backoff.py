"""How long to wait before the next try."""

from __future__ import annotations

MAX_DOUBLINGS = 60


def delay(attempt: int, interval: float, max_interval: float, jitter: float) -> float:
    """Seconds to wait after the `attempt`-th failure in a row (1 = the first).

    Exponential with full jitter: anything from half of `interval` up to interval * 2^(attempt-1), which is
    never more than `max_interval`. `jitter` in [0, 1) is the caller's random number. The floor keeps an
    unlucky draw from hammering a server that has just failed.
    """
    doublings = min(max(attempt - 1, 0), MAX_DOUBLINGS)
    ceiling = min(max_interval, interval * 2.0**doublings)
    floor = min(interval, max_interval) / 2
    return floor + max(0.0, ceiling - floor) * jitter
