"""The digest of a whole file that is sent in pieces, by several threads, and read once.

Pieces are claimed in the order of the file, so whoever has a later one waits for a thread that is at work,
never for one that has yet to begin. With a few streams it sends its piece before it waits, so nothing on the
way is held up; with many, of which some are slow, it waits before it sends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import xxhash

from agent.server.data.reading import Extent

MAX_ZEROS = 1 << 30
"""Bytes of holes that are counted beside as many as there is content; more would cost more than it tells."""

_ZEROS = bytes(1 << 20)


class ContentDigest:
    """xxh3_64 of pieces in order. What is offered a second time counts once. For any thread."""

    def __init__(self, *, known: bool = True) -> None:
        """`known`: all of the content will be offered; else the digest stays unknown."""
        self._lock = threading.Lock()
        self._waiting: dict[int, threading.Condition] = {}  # by where its piece starts: each is woken in turn
        self._state = xxhash.xxh3_64()
        self._at = 0
        self._known = known

    def offer(self, start: int, piece: memoryview | bytes) -> bool:
        """Count a piece if its turn has come. False: it has not, `add` it once there is time to wait."""
        with self._lock:
            if self._known and start > self._at:
                return False
            self._count(start, piece)
            return True

    def add(self, start: int, piece: memoryview | bytes) -> None:
        """Count a piece when its turn comes."""
        with self._lock:
            self._await(start)
            self._count(start, piece)

    def add_hole(self, start: int, end: int) -> None:
        with self._lock:
            self._await(start)
            while self._known and self._at == start < end:
                piece = memoryview(_ZEROS)[: end - start]
                self._count(start, piece)
                start += len(piece)

    def _await(self, start: int) -> None:
        while self._known and start > self._at:
            self._waiting.setdefault(start, threading.Condition(self._lock)).wait()

    def _count(self, start: int, piece: memoryview | bytes) -> None:
        if self._known and start == self._at:
            self._state.update(piece)
            self._at += len(piece)
            self._wake()

    def _wake(self) -> None:
        """Those whose turn it is, and no others: there may be a hundred."""
        for start in [start for start in self._waiting if start <= self._at or not self._known]:
            self._waiting.pop(start).notify_all()

    def give_up(self) -> None:
        """A piece will not be offered."""
        with self._lock:
            self._known = False
            self._wake()

    def value(self, size: int) -> int:
        """The digest of `size` bytes of content; 0 when it is not known."""
        with self._lock:
            return self._state.intdigest() if self._known and self._at == size else 0


def worth_it(extents: Iterable[Extent]) -> bool:
    """Whether the zeros of the holes may be counted."""
    holes = content = 0
    for start, end, hole in extents:
        holes += end - start if hole else 0
        content += 0 if hole else end - start
    return holes <= content + MAX_ZEROS
