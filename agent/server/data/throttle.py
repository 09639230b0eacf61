"""The limit of all that is received, shared by the streams of all sessions. For any thread.

A stream reads a little, then pays for it: it waits until the limit has let that much through, in turns with
the others that wait. What it does not read meanwhile stays in the kernel, and TCP slows its sender down.
"""

from __future__ import annotations

import threading
import time

from agent.lanes.buckets import bytes_per_second
from agent.lanes.meters import Meter
from agent.lanes.shares import Share, Wait

UNPAID_SECONDS = 0.02  # of the limit: what all streams together may have read and not paid for
MIN_SECONDS, MAX_SECONDS = 0.0005, 0.01  # of the limit, that one stream reads at once
MIN_PIECE, MAX_PIECE = 1024, 1 << 20
UNLIMITED = 1 << 30
MAX_WAIT = 0.5  # seconds between looks for an end


class Throttle:
    def __init__(self) -> None:
        self.piece = UNLIMITED  # most bytes that a stream reads before it pays
        self._changed = threading.Condition()
        self._root = Share()
        self._rate: float | None = None
        self._meter = Meter()
        self._readers: set[Reader] = set()

    def limit(self, rate: float | None) -> None:
        """kbit/s; None = no limit. Acts at once."""
        with self._changed:
            self._root.limit(rate, time.monotonic())
            self._rate = rate
            self._divide()
            self._changed.notify_all()

    def _divide(self) -> None:
        """The more streams, the less one reads at once."""
        if self._rate is None:
            self.piece = UNLIMITED
            return
        seconds = min(MAX_SECONDS, max(MIN_SECONDS, UNPAID_SECONDS / max(1, len(self._readers))))
        self.piece = min(MAX_PIECE, max(MIN_PIECE, int(bytes_per_second(self._rate) * seconds)))

    def reader(self) -> Reader:
        """For one stream, which has to `close` it."""
        with self._changed:
            made = Reader(self, Share(self._root))
            self._readers.add(made)
            self._divide()
            return made

    def receiving(self, now: float) -> tuple[float, bool]:
        """(kbit/s over the last second, whether the limit made somebody wait since the last call). To be
        called a few times a second."""
        with self._changed:
            for reader in self._readers:
                self._meter.add(reader.uncounted(), now)
            short, self._root.short = self._root.short, False
            return self._meter.rate(now), short

    def pay(self, reader: Reader, nbytes: int) -> None:
        with self._changed:
            while nbytes > 0 and not reader.closed:
                now = time.monotonic()
                taken = reader.share.take(nbytes, now)
                if isinstance(taken, Wait):
                    self._changed.wait(min(MAX_WAIT, taken.until - now))
                else:
                    nbytes -= taken
            reader.share.leave()

    def close(self, reader: Reader) -> None:
        with self._changed:
            reader.closed = True
            reader.share.leave()
            if reader in self._readers:
                self._readers.discard(reader)
                self._divide()
                self._meter.add(reader.uncounted(), time.monotonic())
            self._changed.notify_all()


class Reader:
    """What one stream owes. `read` is for the thread that reads it."""

    __slots__ = ("_counted", "_owed", "_throttle", "_total", "closed", "share")

    def __init__(self, throttle: Throttle, share: Share) -> None:
        self.share = share
        self.closed = False
        self._throttle = throttle
        self._total = self._counted = self._owed = 0

    @property
    def piece(self) -> int:
        """Most bytes to read at once."""
        return self._throttle.piece

    def read(self, nbytes: int) -> None:
        """So much was read; returns when more may be."""
        self._total += nbytes
        self._owed += nbytes
        if self._owed >= self._throttle.piece:
            owed, self._owed = self._owed, 0
            self._throttle.pay(self, owed)
        elif self._throttle.piece == UNLIMITED:
            self._owed = 0

    def uncounted(self) -> int:
        """Bytes since the last call."""
        total = self._total
        counted, self._counted = self._counted, total
        return total - counted

    def close(self) -> None:
        """The stream is over. Idempotent; for any thread."""
        self._throttle.close(self)
