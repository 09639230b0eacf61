"""A session that grows and shrinks: looks at its streams, and connects more beside them, see `widening`."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from agent.server.data import pacing, widening
from agent.server.data.widening import Sample
from agent.server.data.wire import Stream, WireError

if TYPE_CHECKING:
    from agent.server.data.link import Link
    from agent.server.data.session import Session

_log = structlog.get_logger(__name__)

DOUBTS = 4  # looks: quickly more, slowly fewer
ENOUGH_SECONDS = 5.0


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
        self._missing = 0  # streams that are being connected
        self._refused = ""  # why there is one less than was wanted
        self._least = len(session.streams)
        self._most = max(widening.MOST, self._least)
        self._needless = session.loopback
        self._doubts = 0  # looks in a row by which there are too many
        self._enough_until = 0.0  # more do not help while the line is full

    def look(self, now: float) -> None:
        """Under the link's lock, about twice a second."""
        at, before = self._before
        session = self._session
        if self._needless or now - at < widening.EVERY or self._missing > session.used // 4:
            return
        used = session.streams[: session.used]
        try:
            if pacing.in_force(used[0].sock) == pacing.BBR:
                self._before = (now, [])
                return
            samples = [found for stream in used if (found := widening.sample(stream.sock)) is not None]
        except OSError:
            return  # its threads are about to notice
        self._before = (now, samples)
        if len(samples) != len(used) or len(before) * 4 < len(used) * 3:
            return
        wanted = min(self._most, widening.wanted(before, samples, now - at, self._least))
        if widening.crowded(samples):
            self._enough_until = now + ENOUGH_SECONDS
        self._doubts = self._doubts + 1 if wanted < session.used else 0
        if wanted > session.used and now >= self._enough_until:
            self._grow(wanted)
        elif self._doubts == DOUBTS:
            self._doubts = 0
            self._use(wanted)

    def _grow(self, wanted: int) -> None:
        """All at once: each connection takes some round trips. Each is used as soon as it is there."""
        have = len(self._session.streams)
        if wanted <= have:
            self._use(wanted)
        for number in range(have + self._missing, wanted):
            self._missing += 1
            threading.Thread(target=self._connect, args=(number,), daemon=True).start()

    def _connect(self, number: int) -> None:
        made, error = None, ""
        try:
            made = self._join(number)
        except (OSError, WireError) as failure:
            error = str(failure)
        with self._link.changed:
            self._missing -= 1
            self._refused = self._refused or error
            if made is not None:
                self._take(made)
            if not self._missing and not self._session.over:
                self._grown()

    def _take(self, made: Stream) -> None:
        session = self._session
        if session.over:
            made.sock.close()
            return
        made.number = len(session.streams)
        session.streams.append(made)
        session.outboxes.append(deque())
        session.used = len(session.streams)
        session.piece = widening.piece(session.used)
        self._set_up([made])
        self._start(made)

    def _grown(self) -> None:
        count = len(self._session.streams)
        if self._refused:
            _log.info("no further stream", destination=self._link.ident, streams=count, error=self._refused)
            self._most = count  # no more than the receiver, or a firewall, lets us have
        self._use(count)

    def _use(self, count: int) -> None:
        """So many of the streams there are (under the lock). The others rest until the session ends."""
        session = self._session
        event = "more streams" if count >= session.used else "fewer streams"
        _log.info(event, destination=self._link.ident, streams=count)
        session.used = count
        session.piece = widening.piece(count)
        self._set_up(session.streams)
        self._link.repace()
        self._link.changed.notify_all()
        self._link.resting.notify_all()

    def _set_up(self, streams: Sequence[Stream]) -> None:
        low = widening.unsent(self._session.used)
        try:
            for stream in streams:
                stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, low)
            pacing.apply(streams, self._link.pace)
        except OSError:
            pass  # its threads are about to notice
