"""The digest of a whole file that is sent in pieces, by several threads, and read once.

Pieces are claimed in the order of the file, so whoever has a later one waits for a thread that is at work,
never for one that has yet to begin. It sends its piece before it waits, so nothing on the way is held up.
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
        self._turn = threading.Condition()
        self._state = xxhash.xxh3_64()
        self._at = 0
        self._known = known

    def offer(self, start: int, piece: memoryview | bytes) -> bool:
        """Count a piece if its turn has come. False: it has not, `add` it once there is time to wait."""
        with self._turn:
            if self._known and start > self._at:
                return False
            self._count(start, piece)
            return True

    def add(self, start: int, piece: memoryview | bytes) -> None:
        """Count a piece when its turn comes."""
        with self._turn:
            self._turn.wait_for(lambda: start <= self._at or not self._known)
            self._count(start, piece)

    def add_hole(self, start: int, end: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: start <= self._at or not self._known)
            while self._known and self._at == start < end:
                piece = memoryview(_ZEROS)[: end - start]
                self._count(start, piece)
                start += len(piece)

    def _count(self, start: int, piece: memoryview | bytes) -> None:
        if self._known and start == self._at:
            self._state.update(piece)
            self._at += len(piece)
            self._turn.notify_all()

    def give_up(self) -> None:
        """A piece will not be offered."""
        with self._turn:
            self._known = False
            self._turn.notify_all()

    def value(self, size: int) -> int:
        """The digest of `size` bytes of content; 0 when it is not known."""
        with self._turn:
            return self._state.intdigest() if self._known and self._at == size else 0


def worth_it(extents: Iterable[Extent]) -> bool:
    """Whether the zeros of the holes may be counted."""
    holes = content = 0
    for start, end, hole in extents:
        holes += end - start if hole else 0
        content += 0 if hole else end - start
    return holes <= content + MAX_ZEROS
