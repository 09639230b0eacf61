"""Names of large directories that a page of a listing has read and not told, for the page that follows.

A listing needs none of it: what is not kept is read again. A directory of a million names would be read fifty
times without.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

MAX_KEPT = 4  # directories
KEEP_SECONDS = 60.0
WORTH = 1000  # names; fewer are read again


class Names(NamedTuple):
    """`keys`, the next one last; `more` follow `last`; all as the directory was at that modification time."""

    keys: list[bytes]
    last: bytes
    more: bool
    mtime_ns: int


_Key = tuple[int, int, bytes, frozenset[bytes]]


class Leftovers:
    """For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[float, Names]] = OrderedDict()

    def put(self, fd: int, resume: bytes, hidden: frozenset[bytes], names: Names) -> None:
        """Names of the directory `fd` that follow `resume`."""
        if len(names.keys) < WORTH:
            return
        found = os.fstat(fd)
        with self._lock:
            self._kept[found.st_dev, found.st_ino, resume, hidden] = time.monotonic(), names
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    def take(self, fd: int, resume: bytes, hidden: frozenset[bytes]) -> Names | None:
        """None when there are none, or the directory has changed since."""
        found = os.fstat(fd)
        with self._lock:
            _, names = self._kept.pop((found.st_dev, found.st_ino, resume, hidden), (0.0, None))
        return names if names is not None and names.mtime_ns == found.st_mtime_ns else None

    def expire(self, now: float) -> None:
        """Let go what nobody came back for."""
        with self._lock:
            while self._kept and next(iter(self._kept.values()))[0] < now - KEEP_SECONDS:
                self._kept.popitem(last=False)
