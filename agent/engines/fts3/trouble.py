"""What stands in the way of a destination just now, for its status. Memory only: it is found out again."""

from __future__ import annotations

import threading

from agent.model.condition import Reason
from agent.model.observed import Notice


class Troubles:
    """By number of the destination. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unreachable: dict[int, str] = {}
        self._notices: dict[int, dict[Reason, str]] = {}

    def unreachable(self, destination: int, why: str) -> bool:
        """Nobody answers there, or at the source; "" when somebody does. True when that is news."""
        with self._lock:
            before = self._unreachable.get(destination, "")
            self._unreachable[destination] = why
        return bool(before) != bool(why)

    def notice(self, destination: int, reason: Reason, message: str) -> bool:
        """Tell of something until it is told with an empty message. True when it is news."""
        with self._lock:
            mine = self._notices.setdefault(destination, {})
            before = mine.pop(reason, "")
            if message:
                mine[reason] = message
        return before != message

    def of(self, destination: int) -> tuple[str, tuple[Notice, ...]]:
        with self._lock:
            found = self._notices.get(destination, {})
            notices = tuple(Notice(reason, message) for reason, message in found.items())
            return self._unreachable.get(destination, ""), notices
