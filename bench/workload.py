"""What the workloads share: their sizes, and where a turn leaves its files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.machine import file_system, sync_file_system

MEMORY_KIND = "tmpfs"


@dataclass(frozen=True)
class Scale:
    """Sizes of the workloads; by themselves those of the page."""

    name: str = "record"
    large_bytes: int = 4 << 30
    delta_bytes: int = 1 << 30
    small_files: int = 100_000
    changed_files: int = 100_000
    burst_files: int = 10_000
    watched_files: int = 100_000
    unchanged_files: tuple[int, ...] = (100_000, 1_000_000)
    changes: int = 100
    mappings: int = 10_000
    destinations: int = 100
    fts3_files: int = 20_000
    fts3_links: int = 20
    fts3_still: float = 10.0  # seconds in which nothing moves
    wan_seconds: float = 45.0  # most that anybody has for the large file
    wan_bytes: int = 4 << 30
    wan_files: int = 5_000
    wan_losses: tuple[float, ...] = (0.0, 0.001, 0.01)
    lanes_seconds: float = 15.0
    lanes_rounds: int = 9  # of all lanes together and one alone
    rounds: int = 5
    slow_rounds: int = 2  # of peers that take many times as long
    slowest_rounds: int = 1  # of those that take minutes


QUICK = Scale(
    name="quick",
    large_bytes=512 << 20,
    delta_bytes=128 << 20,
    small_files=5_000,
    changed_files=5_000,
    burst_files=1_000,
    watched_files=2_000,
    unchanged_files=(5_000,),
    changes=30,
    mappings=300,
    destinations=10,
    fts3_files=5_000,
    fts3_links=20,
    fts3_still=5.0,
    wan_seconds=8.0,
    wan_bytes=500 << 20,
    wan_files=500,
    wan_losses=(0.0, 0.01),
    lanes_seconds=8.0,
    lanes_rounds=3,
    slow_rounds=1,
)


TINY = Scale(
    name="tiny",
    large_bytes=4 << 20,
    delta_bytes=16 << 20,
    small_files=120,
    changed_files=200,
    burst_files=50,
    watched_files=50,
    unchanged_files=(200,),
    changes=3,
    mappings=6,
    destinations=2,
    fts3_files=400,
    fts3_links=4,
    fts3_still=0.5,
    wan_seconds=2.0,
    wan_bytes=20 << 20,
    wan_files=20,
    wan_losses=(0.0, 0.01),
    lanes_seconds=6.0,
    lanes_rounds=1,
    rounds=1,
    slow_rounds=1,
)


class Target:
    """Where a turn's files go: a new directory each time.

    With `keep` the old ones stay until the end of the run, but for those in memory: ext4 does not use the
    inodes of deleted files again for some minutes and searches past each of them, so that creating files
    right after deleting as many is up to fifteen times slower.
    """

    def __init__(self, root: Path, *, keep: bool) -> None:
        self._root, self._turn = root, 0
        self._keep = keep and file_system(root) != MEMORY_KIND
        self.current = root

    @property
    def name(self) -> str:
        return self.current.name

    def renew(self) -> None:
        """An empty directory, and nothing left to be written by an earlier turn."""
        if not self._keep and self._turn:
            shutil.rmtree(self.current)
        self._turn += 1
        self.current = self._root / f"turn-{self._turn:03}"
        self.current.mkdir(parents=True)
        self.current.chmod(0o777)  # some servers are not who we are
        sync_file_system(self._root)

    def timed(self, name: str, send: Callable[[], float]) -> Callable[[], dict[str, float]]:
        """Measure `send`, and then how much longer it takes until all is on storage."""

        def run() -> dict[str, float]:
            seconds = send()
            start = time.monotonic()
            sync_file_system(self._root)
            return {name: seconds, f"{name} + sync": seconds + time.monotonic() - start}

        return run
