"""Connections that have not said yet to which session they belong. Each costs a thread, so they are few."""

from __future__ import annotations

import socket
import threading

MAX_GREETINGS = 128


class Greetings:
    """When there are too many, the one that takes longest is given up: a peer that stalls does not keep out
    one that needs a moment only. For any thread."""

    def __init__(self, limit: int = MAX_GREETINGS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._begun: dict[socket.socket, None] = {}  # the oldest first

    def begin(self, sock: socket.socket) -> None:
        with self._lock:
            if len(self._begun) >= self._limit:
                oldest = next(iter(self._begun))
                del self._begun[oldest]
                _wake(oldest)
            self._begun[sock] = None

    def end(self, sock: socket.socket) -> None:
        with self._lock:
            self._begun.pop(sock, None)


def _wake(sock: socket.socket) -> None:
    """Its thread sees the end of the connection."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # gone by itself
