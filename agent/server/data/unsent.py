"""How much a stream leaves unsent in the kernel, as its line becomes faster and slower.

What is unsent there goes before what becomes urgent, so it is little; but a line that runs dry while the
stream's thread waits for a processor is slower for seconds: its congestion control takes that for the rate of
the line.
"""

from __future__ import annotations

import socket

from agent.server.data import widening
from agent.server.data.wire import Stream

LOOK_SECONDS = 0.02


class Unsent:
    """Of one stream, in its thread."""

    def __init__(self, stream: Stream, *, always: bool) -> None:
        """`always`: what it begins with is enough."""
        self._stream = stream
        self._next = float("inf") if always else 0.0
        self._unsent = 0

    def look(self, streams: int, now: float) -> None:
        """After each piece. OSError when the connection is gone."""
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        found = widening.sample(self._stream.sock)
        unsent = 0 if found is None else widening.unsent(streams, found.rate)
        if unsent not in (0, self._unsent):
            self._stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)
            self._unsent = unsent
