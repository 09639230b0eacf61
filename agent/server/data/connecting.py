"""How a link gets its sessions: connect while there is work, with growing pauses, for ever. A thread each."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.server.data import wire
from agent.server.data.answers import Answers
from agent.server.data.link import IDLE_SECONDS, Link, Session
from agent.server.data.pump import Pump
from agent.server.data.target import Target
from agent.server.data.wire import Header, Json, Kind, Stream, WireError

if TYPE_CHECKING:
    from agent.server.data.options import WorkerOptions

FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0
CONNECT_SECONDS = 10.0


class Connector:
    def __init__(self, link: Link, target: Target, options: WorkerOptions) -> None:
        self._link = link
        self._streams = options.streams
        self._loopback_streams = options.loopback_streams
        self._server_uid = options.server_uid
        self._target = target
        self._state: tuple[str, str] = ("", "")
        threading.Thread(target=self._run, name=f"link {link.ident}", daemon=True).start()

    def aim(self, target: Target) -> None:
        """Another way: the present session ends."""
        changed, self._target = target != self._target, target
        if changed:
            self._link.broken(self._link.session, "the destination's address was changed")

    def _run(self) -> None:
        link = self._link
        pause = FIRST_PAUSE
        while True:
            with link.changed:
                link.changed.wait_for(lambda: link.wanted or link.removed)
                if link.removed:
                    return
            self._tell("negotiating" if self._state[0] != "disconnected" else "", "")
            try:
                session, hello = self._connect()
            except (OSError, WireError) as error:
                self._tell("disconnected", _explain(error, self._target))
                self._pause(pause)
                pause = min(pause * 2, LAST_PAUSE)
                continue
            started = time.monotonic()
            self._tell("connected", "", hello)
            self._live(session)
            self._tell("disconnected", session.error)
            if session.error and time.monotonic() - started < LAST_PAUSE:
                self._pause(pause)
                pause = min(pause * 2, LAST_PAUSE)
            else:
                pause = FIRST_PAUSE

    def _pause(self, seconds: float) -> None:
        with self._link.changed:
            self._link.changed.wait_for(lambda: self._link.removed, timeout=seconds)

    def _tell(self, state: str, error: str, hello: Json | None = None) -> None:
        if not state or (state, error) == self._state:
            return
        self._state = (state, error)
        message: Json = {"op": "destinationState", "id": self._link.ident, "state": state, "error": error}
        if hello is not None:
            message["serverId"] = str(hello.get("serverId") or "")
            message["serverUid"] = str(hello.get("serverUid") or "")
        self._link.report(message)

    def _connect(self) -> tuple[Session, Json]:
        """A new session with all its streams. OSError or WireError when that does not succeed."""
        streams: list[Stream] = []
        ident = secrets.token_hex(16)
        hello: Json = {}
        target = self._target
        try:
            wanted = self._streams
            while len(streams) < wanted:
                sock = socket.create_connection((target.address, target.port), CONNECT_SECONDS)
                streams.append(Stream(sock, len(streams)))
                if wire.is_loopback(sock):
                    wanted = min(wanted, self._loopback_streams)
                hello = self._handshake(streams[-1], ident)
        except (OSError, WireError):
            for stream in streams:
                stream.sock.close()
            raise
        return Session(streams, hello), hello

    def _handshake(self, stream: Stream, ident: str) -> Json:
        wire.tune(stream.sock)
        stream.sock.settimeout(wire.HANDSHAKE_SECONDS)
        stream.sock.sendall(wire.PREAMBLE)
        hello: Json = {
            "protocol": wire.PROTOCOL,
            "features": list(wire.FEATURES),
            "serverUid": self._server_uid,
            "session": ident,
            "stream": stream.number,
        }
        stream.send_json(Header(Kind.HELLO), hello)
        received = stream.receive()
        if received is None:
            raise WireError("the destination closed the connection during the handshake")
        header, payload = received
        answer = wire.decode_json(payload)
        if header.kind == Kind.ERROR:
            raise WireError(f"the destination reports: {str(answer.get('error'))[:1000]}")
        if header.kind != Kind.HELLO or answer.get("protocol") != wire.PROTOCOL:
            raise WireError("the destination speaks another data protocol; bring both servers to one version")
        stream.sock.settimeout(None)
        return answer

    def _live(self, session: Session) -> None:
        """Run the session's threads to its end."""
        link = self._link
        link.connected(session)
        roles: list[Callable[[], None]] = []
        for stream in session.streams:
            roles += [Pump(link, session, stream).run, Answers(link, session, stream).run]
        threads = [threading.Thread(target=role, name="data", daemon=True) for role in roles]
        for thread in threads:
            thread.start()
        with link.changed:
            while not session.over:
                link.changed.wait(1.0)
                idle = time.monotonic() - link.last_used
                if not link.wanted and idle > IDLE_SECONDS:
                    link.broken(session, "")
        for thread in threads:
            thread.join()
        for stream in session.streams:
            stream.sock.close()
        link.disconnected()


def _explain(error: Exception, target: Target) -> str:
    if isinstance(error, WireError):
        return str(error)
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{target.shown} cannot be reached: {why}"
