"""The limits that the sender's links share: the server's, and each connection's. For any thread.

A link asks here for what its scheduler is about to grant, so that lanes and priorities order what a
destination gets, whatever that is. No lock of a link is taken here, so its own may be held.
"""

from __future__ import annotations

import threading

from agent.lanes.meters import Meter
from agent.lanes.shares import Share, Wait
from agent.server.data.pacing import Pace

START_SECONDS = 1.0
"""How long a session keeps to the connection's `sendRate` when rate control then finds its own."""


class _Way:
    """One connection."""

    def __init__(self, root: Share) -> None:
        self.share = Share(root)
        self.meter = Meter()
        self.pace = Pace()
        self.starting_until = 0.0
        self.portions = 0

    def limit(self, now: float) -> None:
        pace = self.pace
        starting = pace.rate if pace.rate_control and now < self.starting_until else None
        rates = [rate for rate in (pace.rate_max, pace.fixed, starting) if rate is not None]
        self.share.limit(min(rates, default=None), now)
        self.share.assure(pace.rate_min or None, now)


class Portion:
    """What one link may take of it all."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self.way: _Way | None = None
        self.share = Share(governor.root)

    def place(self, pace: Pace, now: float) -> None:
        """Say to which connection the link belongs, and what holds for that one."""
        self._governor.place(self, pace, now)

    def begun(self, now: float) -> None:
        """A session was opened."""
        with self._governor.lock:
            if self.way is not None:
                self.way.starting_until = now + START_SECONDS
                self.way.limit(now)

    def take(self, nbytes: int, now: float) -> int | Wait:
        """As `Share.take`. What was not used of it is given back with `used`."""
        with self._governor.lock:
            return self.share.take(nbytes, now)

    def used(self, taken: int, nbytes: int, now: float) -> None:
        with self._governor.lock:
            if nbytes != taken:
                self.share.correct(nbytes - taken, now)
            self._governor.meter.add(nbytes, now)
            if self.way is not None:
                self.way.meter.add(nbytes, now)

    def leave(self) -> None:
        """There is nothing to send just now."""
        with self._governor.lock:
            self.share.leave()

    def remove(self) -> None:
        """The link is gone."""
        self._governor.remove(self)


class Governor:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.root = Share()
        self.meter = Meter()
        self._ways: dict[str, _Way] = {}

    def limit(self, rate: float | None, now: float) -> None:
        """Of all that is sent, kbit/s. Links that wait have to be woken."""
        with self.lock:
            self.root.limit(rate, now)

    def place(self, portion: Portion, pace: Pace, now: float) -> None:
        with self.lock:
            way = self._ways.get(pace.connection)
            if way is None:
                way = self._ways[pace.connection] = _Way(self.root)
            if portion.way is not way:
                self._release(portion)
                portion.way = way
                portion.share = Share(way.share)
                way.portions += 1
            if pace != way.pace:
                if pace.rate != way.pace.rate:
                    way.starting_until = now + START_SECONDS
                way.pace = pace
                way.limit(now)

    def remove(self, portion: Portion) -> None:
        with self.lock:
            self._release(portion)

    def _release(self, portion: Portion) -> None:
        portion.share.leave()
        way, portion.way = portion.way, None
        if way is not None:
            way.portions -= 1
            if way.portions == 0:
                self._ways.pop(way.pace.connection, None)

    def tick(self, now: float) -> None:
        """End the starting rates that are over."""
        with self.lock:
            for way in self._ways.values():
                if way.starting_until and now >= way.starting_until:
                    way.starting_until = 0.0
                    way.limit(now)

    def rates(self, now: float) -> dict[str, float]:
        """kbit/s over the last second, by connection."""
        with self.lock:
            return {name: way.meter.rate(now) for name, way in self._ways.items() if name}

    def sending(self, now: float) -> tuple[float, bool]:
        """(kbit/s over the last second, whether the server's limit made somebody wait since the last call)"""
        with self.lock:
            short, self.root.short = self.root.short, False
            return self.meter.rate(now), short
