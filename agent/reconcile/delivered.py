"""What this run of the agent delivered and deleted: the summary that `--once` prints at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

NAMED = 20
"""Paths kept by name for each mapping and destination; the rest is counted."""


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

    def add(self, mapping: str, destination: str, files: Iterable[tuple[str, int]]) -> None:
        """Files that became durable at the destination: (path, size)."""
        with self._lock:
            tally = self._tallies.setdefault((mapping, destination), Tally())
            for path, size in files:
                tally.files += 1
                tally.bytes += size
                if len(tally.named) < NAMED:
                    tally.named.append(path)

    def add_deleted(self, mapping: str, destination: str, count: int) -> None:
        with self._lock:
            self._tallies.setdefault((mapping, destination), Tally()).deleted += count

    def all(self) -> dict[tuple[str, str], Tally]:
        with self._lock:
            return {
                key: Tally(t.files, t.bytes, t.deleted, list(t.named)) for key, t in self._tallies.items()
            }
