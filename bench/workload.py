"""What the workloads share: their sizes, and the same start for everyone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import trees
from bench.machine import sync_file_system


@dataclass(frozen=True)
class Scale:
    """Sizes of the workloads."""

    large_bytes: int = 2 << 30
    small_files: int = 20_000
    unchanged_files: tuple[int, ...] = (20_000, 100_000)
    watched_files: int = 20_000
    changes: int = 100
    rounds: int = 5


QUICK = Scale(
    large_bytes=256 << 20,
    small_files=2_000,
    unchanged_files=(2_000,),
    watched_files=2_000,
    changes=50,
    rounds=3,
)


def clean_start(folder: Path) -> Callable[[], None]:
    """An empty `folder`, and nothing left to be written by an earlier turn."""

    def prepare() -> None:
        trees.clear(folder)
        sync_file_system(folder)

    return prepare


def timed_sync(name: str, send: Callable[[], float], folder: Path) -> Callable[[], dict[str, float]]:
    """Measure `send`, and then how much longer it takes until all is on storage."""

    def run() -> dict[str, float]:
        seconds = send()
        start = time.monotonic()
        sync_file_system(folder)
        return {name: seconds, f"{name} + sync": seconds + time.monotonic() - start}

    return run
