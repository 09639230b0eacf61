"""How the loop itself is doing: what runs, how long reconciles take, how they end. Since the start."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.model.outcome import Done, Outcome, Retry, Stalled, Wait
from agent.model.spec import Key, Kind

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the histogram of durations, in seconds."""

_RESULTS: Mapping[type[Outcome], str] = {Done: "done", Wait: "wait", Retry: "retry", Stalled: "stalled"}


@dataclass(slots=True)
class Durations:
    """A histogram: `counts` has one more bucket than BUCKETS, for what took longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class Meters:
    """Thread-safe. Times are those of one monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Key, float] = {}
        self._durations: dict[Kind, Durations] = {}
        self._results: Counter[tuple[Kind, str]] = Counter()

    def begun(self, key: Key, now: float) -> None:
        with self._lock:
            self._running[key] = now

    def ended(self, key: Key, outcome: Outcome, now: float) -> None:
        with self._lock:
            seconds = now - self._running.pop(key, now)
            self._durations.setdefault(key.kind, Durations()).add(max(0.0, seconds))
            self._results[key.kind, _RESULTS[type(outcome)]] += 1

    def longest_running(self, now: float) -> tuple[Key, float] | None:
        """The reconcile that has been running longest, and for how many seconds; None when none runs."""
        with self._lock:
            key = min(self._running, key=self._running.__getitem__, default=None)
            return None if key is None else (key, now - self._running[key])

    def durations(self) -> dict[Kind, Durations]:
        with self._lock:
            return {kind: Durations(list(d.counts), d.total) for kind, d in self._durations.items()}

    def results(self) -> dict[tuple[Kind, str], int]:
        with self._lock:
            return dict(self._results)
