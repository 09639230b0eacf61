"""What each lane sent over the last ten minutes, for whoever looks at the status page."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.model.outcome import LaneSyncError
from agent.reconcile.measures import LaneBytes

KEPT_SECONDS = 600.0
LOOKED_AT, UNSEEN = 1.0, 10.0
"""Seconds between two samples while somebody looks, and while nobody does."""
ATTENTION = 15.0
"""Somebody looks, for so many seconds after a look."""
MAX_DESTINATIONS = 50
"""Most destinations whose lanes are sampled."""

Document = dict[str, Any]


@dataclass(slots=True)
class _Series:
    """One destination: its lanes, and the rate of each (kbit/s) up to each moment."""

    lanes: list[Document]
    sent: dict[str, int]
    at: float
    points: deque[tuple[float, ...]] = field(default_factory=deque)  # (Unix seconds, rate, rate, …)


class Traffic:
    """Thread-safe. `read` gives the counters of every destination; it may take its time."""

    def __init__(self, read: Callable[[], Iterable[LaneBytes]], now: Callable[[], float] = time.time) -> None:
        self._read = read
        self._now = now
        self._series: dict[str, _Series] = {}
        self._lock = threading.Lock()
        self._looked = threading.Event()
        self._looked_until = 0.0
        self._ended = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended = True
        self._looked.set()

    def looked(self) -> None:
        """Somebody looks: sample as often as the page draws."""
        self._looked_until = time.monotonic() + ATTENTION
        self._looked.set()

    def sample(self) -> None:
        """Read the counters once. A server that cannot be asked leaves a gap."""
        try:
            found = list(self._read())
        except LaneSyncError:
            return
        now = self._now()
        by_name: dict[str, list[LaneBytes]] = {}
        for lane in found:
            by_name.setdefault(lane.destination, []).append(lane)
        with self._lock:
            for name, lanes in by_name.items():
                self._add(name, lanes, now)
            for name in [n for n, series in self._series.items() if series.at < now - KEPT_SECONDS]:
                del self._series[name]

    def since(self, at: float) -> dict[str, Document]:
        """By destination: its `lanes` (name, share), and the `points` later than `at`."""
        with self._lock:
            return {
                name: {"lanes": series.lanes, "points": [p for p in series.points if p[0] > at]}
                for name, series in self._series.items()
            }

    def _add(self, name: str, lanes: list[LaneBytes], now: float) -> None:
        said = [{"name": lane.lane, "share": lane.share} for lane in lanes]
        sent = {lane.lane: lane.sent for lane in lanes}
        series = self._series.get(name)
        if series is None or series.sent.keys() != sent.keys():
            self._series[name] = _Series(said, sent, now)
            return
        elapsed = now - series.at
        if elapsed <= 0:  # the clock was set back: what was seen lies ahead
            self._series[name] = _Series(said, sent, now)
            return
        rates = (max(0.0, _grown(series.sent[lane], count)) for lane, count in sent.items())
        series.points.append((round(now, 2), *(round(n * 8 / 1000 / elapsed, 1) for n in rates)))
        series.lanes, series.sent, series.at = said, sent, now
        while series.points[0][0] < now - KEPT_SECONDS:
            series.points.popleft()

    def _run(self) -> None:
        while not self._ended:
            self.sample()
            if time.monotonic() < self._looked_until:
                time.sleep(LOOKED_AT)
            else:
                self._looked.clear()
                self._looked.wait(UNSEEN)


def _grown(before: int, now: int) -> int:
    """A server that was started again counts from zero."""
    return now - before if now >= before else now
