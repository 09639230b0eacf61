"""A wall clock that a test sets, for processes of its own: the machine's is not touched."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSTALL = """
import mmap, os, struct, time

with open(os.environ["TEST_CLOCK"], "rb") as _file:
    _ahead = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)
_time_ns = time.time_ns

def time_ns():
    return _time_ns() + struct.unpack("=q", _ahead[:8])[0] * 1_000_000_000

def wall():
    return time_ns() / 1e9

time.time_ns, time.time = time_ns, wall
"""
"""Python runs it before anything else in each process that has it on its path."""


class FakeClock:
    """So many seconds ahead of the machine's. Clocks that never jump, and times of files, are as ever."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(_INSTALL)
        path = directory / "ahead"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._ahead = mmap.mmap(file.fileno(), 8)
        self.environment = {"TEST_CLOCK": str(path), "PYTHONPATH": str(directory)}

    def set(self, seconds: int) -> None:
        self._ahead[:8] = struct.pack("=q", seconds)


@contextmanager
def fake_clock(directory: Path) -> Iterator[FakeClock]:
    """For processes that are started meanwhile."""
    clock, before = FakeClock(directory / "clock"), dict(os.environ)
    os.environ.update(clock.environment)
    try:
        yield clock
    finally:
        os.environ.clear()
        os.environ.update(before)
