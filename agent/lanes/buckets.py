"""A token bucket sized so that a rate holds within 2 % or one chunk over any second."""

from __future__ import annotations

import math

MAX_CHUNK = 1 << 20
"""Most bytes of one grant."""

MIN_CHUNK = 1024
"""Least chunk size: below this a frame's header would cost more than its content."""

CHUNK_SECONDS = 0.05
BURST_SECONDS = 0.02
WAKE_MARGIN = 1e-6
"""Added to wake-up times, so that rounding never makes a waiter come a moment too early."""


def bytes_per_second(kbps: float) -> float:
    """kbit/s -> bytes/s. Raises ValueError for what is not a positive, finite rate."""
    if not math.isfinite(kbps) or kbps <= 0:
        raise ValueError(f"a rate must be a positive number of kbit/s, or None for no limit; got {kbps!r}")
    return kbps * 125.0


class TokenBucket:
    """Tokens are bytes. They may fall below zero when more was sent than was granted; time pays that back.

    `quantum` is what must be there before a grant is worth making. It is at most half of `capacity`, so
    that a waiter who wakes up late by up to `quantum` worth of time loses nothing.
    """

    __slots__ = ("at", "capacity", "chunk", "quantum", "rate", "tokens")

    def __init__(self, kbps: float, now: float) -> None:
        self.at = now
        self._resize(kbps)
        self.tokens = self.capacity

    def _resize(self, kbps: float) -> None:
        self.rate = bytes_per_second(kbps)
        self.chunk = min(float(MAX_CHUNK), max(float(MIN_CHUNK), self.rate * CHUNK_SECONDS))
        self.capacity = max(self.chunk, self.rate * BURST_SECONDS)
        self.quantum = min(self.chunk, self.capacity / 2)

    def set_rate(self, kbps: float, now: float) -> None:
        """Acts at once: neither saved tokens nor debt of the old rate outlast one chunk of the new one."""
        self.refill(now)
        self._resize(kbps)
        self.tokens = max(-self.capacity, min(self.tokens, self.capacity))

    def refill(self, now: float) -> None:
        if now > self.at:
            self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.rate)
            self.at = now

    def ready_at(self) -> float:
        """When `quantum` tokens are there; in the past when they are there already."""
        missing = self.quantum - self.tokens
        return self.at if missing <= 0 else self.at + missing / self.rate + WAKE_MARGIN
