"""Servers that did not answer somebody, until it is known whether they answer at all.

A question to a server that is gone takes as long as a time-out. The first that waits in vain says so; then
one asks, `Server/NAME`, and whoever else would is turned away until that is over. A dead server costs a few
time-outs however many mappings and destinations it has, and workers are left for the others.
"""

from __future__ import annotations

import threading

from agent.model.spec import Key


class Doubts:
    """Thread-safe."""

    def __init__(self) -> None:
        self._turned_away: dict[str, set[Key]] = {}
        self._lock = threading.Lock()

    def note(self, server: str) -> None:
        """It did not answer. Who says so also brings `Server/NAME`."""
        with self._lock:
            self._turned_away.setdefault(server, set())

    def turned_away(self, server: str, key: Key) -> bool:
        """Whether `key` is not to ask this server now; then `over` names it."""
        with self._lock:
            waiting = self._turned_away.get(server)
            if waiting is None:
                return False
            waiting.add(key)
            return True

    def over(self, server: str) -> frozenset[Key]:
        """It was asked, whatever came of it. Who was turned away is to be woken."""
        with self._lock:
            return frozenset(self._turned_away.pop(server, ()))
