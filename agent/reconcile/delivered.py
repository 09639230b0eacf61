"""What this run of the agent delivered and deleted: the summary that `--once` prints, the last paths live."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

NAMED = 20
"""Paths kept by name for each mapping and destination; the rest is counted."""


LAST = 5
"""The most recent paths, for the live view."""


@dataclass(slots=True)
class Tally:
    files: int = 0
    bytes: int = 0
    deleted: int = 0
    named: list[str] = field(default_factory=list)


class Delivered:
    """Thread-safe counters per (mapping, destination)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._last: deque[tuple[float, str]] = deque(maxlen=LAST)

    def add(self, mapping: str, destination: str, files: Iterable[tuple[str, int]], now: float) -> None:
        """Files that became durable at the destination: (path, size)."""
        with self._lock:
            tally = self._tallies.setdefault((mapping, destination), Tally())
            for path, size in files:
                tally.files += 1
                tally.bytes += size
                self._last.append((now, path))
                if len(tally.named) < NAMED:
                    tally.named.append(path)

    def add_deleted(self, mapping: str, destination: str, count: int) -> None:
        with self._lock:
            self._tallies.setdefault((mapping, destination), Tally()).deleted += count

    def last(self) -> list[tuple[float, str]]:
        """The most recent paths with their Unix times, newest last."""
        with self._lock:
            return list(self._last)

    def all(self) -> dict[tuple[str, str], Tally]:
        with self._lock:
            return {
                key: Tally(t.files, t.bytes, t.deleted, list(t.named)) for key, t in self._tallies.items()
            }
