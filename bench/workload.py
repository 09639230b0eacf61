"""What the workloads share: their sizes, and where a turn leaves its files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.machine import sync_file_system


@dataclass(frozen=True)
class Scale:
    """Sizes of the workloads."""

    large_bytes: int = 2 << 30
    delta_bytes: int = 1 << 30
    small_files: int = 20_000
    unchanged_files: tuple[int, ...] = (20_000, 100_000)
    watched_files: int = 20_000
    mappings: int = 10_000
    destinations: int = 100
    changes: int = 100
    fts3_files: int = 1_000_000
    fts3_links: int = 200
    fts3_still: float = 30.0  # seconds in which nothing moves
    rounds: int = 5
    full: bool = False  # with what takes hours


QUICK = Scale(
    large_bytes=256 << 20,
    delta_bytes=128 << 20,
    small_files=2_000,
    unchanged_files=(2_000,),
    watched_files=2_000,
    mappings=300,
    destinations=10,
    changes=50,
    fts3_files=20_000,
    fts3_links=20,
    fts3_still=10.0,
    rounds=3,
)


FULL = Scale(large_bytes=4 << 30, small_files=100_000, unchanged_files=(100_000, 1_000_000), full=True)


class Target:
    """Where a turn's files go: a new directory each time.

    With `keep` the old ones stay until the end of the run: ext4 does not use the inodes of deleted files
    again for some minutes and searches past each of them, so that creating files right after deleting as
    many is up to fifteen times slower.
    """

    def __init__(self, root: Path, *, keep: bool) -> None:
        self._root, self._keep, self._turn = root, keep, 0
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
