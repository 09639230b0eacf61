"""Sessions that a relay passes on: how many, for whom, and when one of them is dead."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from agent.server.relay.control import Link
from agent.server.relay.limits import Limits, Tally
from agent.server.relay.protocol import RefusedError
from agent.server.relay.roster import Receiver
from agent.server.relay.splice import CHUNK, Splice

_log = structlog.get_logger(__name__)

SWEEP_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Session:
    splice: Splice
    since: float
    passed: tuple[int, int] = (0, 0)
    moved: float = 0.0


class Sessions:
    """Event loop only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._to = Tally(limits.sessions, limits.sessions_each)
        self._from = Tally(limits.sessions, limits.sessions_from)
        self._running: set[_Session] = set()
        self._buffer = memoryview(bytearray(CHUNK))

    def __len__(self) -> int:
        return self._to.total

    @contextmanager
    def place(self, sender: str, receiver: Receiver[Link]) -> Iterator[None]:
        """For a session of a sender's address; RefusedError when there is none."""
        if not self._to.enter(receiver.keys[0]):
            raise RefusedError("it passes on as many sessions as it may; try again later")
        try:
            if not self._from.enter(sender):
                raise RefusedError("it passes on as many sessions from one address as it may")
            try:
                yield
            finally:
                self._from.leave(sender)
        finally:
            self._to.leave(receiver.keys[0])

    async def run(self, sender: socket.socket, far: socket.socket, receiver: Receiver[Link]) -> None:
        """Pass bytes on until the session is over. Owns both sockets."""
        peer, where = _peer(sender), _peer(far)
        loop = asyncio.get_running_loop()
        session = _Session(Splice(sender, far, self._buffer), loop.time(), moved=loop.time())
        self._running.add(session)
        try:
            await session.splice.over
        finally:
            session.splice.close()
            self._running.discard(session)
            forth, back = session.splice.passed
            _log.info(
                "session ended",
                sender=peer,
                receiver=receiver.name,
                receiver_peer=where,
                bytes_to_receiver=forth,
                bytes_to_sender=back,
                seconds=round(loop.time() - session.since, 3),
            )

    async def sweep(self) -> None:
        """Close what has died without saying so, for ever."""
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self._limits.half_seconds / 4))
            now = asyncio.get_running_loop().time()
            for session in list(self._running):
                self._look(session, now)

    def _look(self, session: _Session, now: float) -> None:
        passed = session.splice.passed
        if passed != session.passed:
            session.passed, session.moved = passed, now
            return
        patience = self._limits.half_seconds if session.splice.half else self._limits.idle_seconds
        if now - session.moved > patience:
            session.splice.close()


def _peer(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return "gone"
    return f"{host}:{port}"
