"""A session that grows: looks at its streams, and connects more beside them, see `widening`."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from agent.server.data import pacing, widening
from agent.server.data.widening import Sample
from agent.server.data.wire import Stream, WireError

if TYPE_CHECKING:
    from agent.server.data.link import Link
    from agent.server.data.session import Session

_log = structlog.get_logger(__name__)


class Width:
    """Of one session. `join` connects one more stream, `start` begins to use it (under the link's lock)."""

    def __init__(
        self, link: Link, session: Session, join: Callable[[int], Stream], start: Callable[[Stream], None]
    ) -> None:
        self._link = link
        self._session = session
        self._join = join
        self._start = start
        self._before: tuple[float, list[Sample]] = (0.0, [])
        self._growing = False
        self._most = widening.MOST
        self._needless = session.loopback

    def look(self, now: float) -> None:
        """Under the link's lock, about once a second."""
        at, before = self._before
        if self._needless or self._growing or now - at < widening.EVERY:
            return
        streams = self._session.streams
        try:
            if pacing.in_force(streams[0].sock) == pacing.BBR:
                self._before = (now, [])
                return
            samples = [found for stream in streams if (found := widening.sample(stream.sock)) is not None]
        except OSError:
            return  # its threads are about to notice
        self._before = (now, samples)
        if len(samples) != len(before) or len(samples) != len(streams):
            return
        wanted = min(self._most, widening.wanted(before, samples, now - at))
        if wanted > len(streams):
            self._growing = True
            threading.Thread(target=self._grow, args=(len(streams), wanted), daemon=True).start()

    def _grow(self, first: int, wanted: int) -> None:
        """All at once: each connection takes some round trips."""
        made: deque[Stream] = deque()
        threads = [
            threading.Thread(target=self._connect, args=(number, made), daemon=True)
            for number in range(first, wanted)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._link.changed:
            self._growing = False
            if len(made) < wanted - first:
                self._most = first + len(made)  # no more than the receiver, or a firewall, lets us have
            self._take(sorted(made, key=lambda stream: stream.number))

    def _connect(self, number: int, made: deque[Stream]) -> None:
        try:
            made.append(self._join(number))
        except (OSError, WireError) as error:
            _log.info("no further stream", error=str(error))

    def _take(self, made: list[Stream]) -> None:
        session = self._session
        if session.over:
            for stream in made:
                stream.sock.close()
            return
        for stream in made:
            stream.number = len(session.streams)
            session.streams.append(stream)
            session.outboxes.append(deque())
            self._start(stream)
        session.piece = widening.piece(len(session.streams))
        self._link.repace()
        for stream in session.streams:
            try:
                low = widening.unsent(len(session.streams))
                stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, low)
            except OSError:
                return  # its threads are about to notice
        _log.info("more streams", destination=self._link.ident, streams=len(session.streams))
        self._link.changed.notify_all()
