"""How much of what peers sent may wait at once: in all, and of one session."""

from __future__ import annotations

import threading
from collections import Counter


class Room:
    """Bytes. For any thread."""

    def __init__(self, limit: int, limit_each: int) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._lock = threading.Lock()
        self._each: Counter[object] = Counter()
        self.taken = 0

    def take(self, owner: object, size: int) -> Seat | None:
        """None when there is no room."""
        with self._lock:
            if self.taken + size > self._limit or self._each[owner] + size > self._limit_each:
                return None
            self._each[owner] += size
            self.taken += size
            return Seat(self, owner, size)

    def _give(self, owner: object, size: int) -> None:
        with self._lock:
            self.taken -= size
            self._each[owner] -= size
            if self._each[owner] <= 0:
                del self._each[owner]


class Seat:
    """What was taken, until it is given back: by one thread, once."""

    def __init__(self, room: Room, owner: object, size: int) -> None:
        self._given = room, owner, size

    def leave(self) -> None:
        room, owner, size = self._given
        room._give(owner, size)
