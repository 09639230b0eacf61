"""How a link gets its sessions: connect while there is work, with growing pauses, for ever. A thread each."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

from agent.jetstream import keys, marks
from agent.server.data import dialing, proof, secure, wire
from agent.server.data.answers import Answers
from agent.server.data.link import IDLE_SECONDS, Link
from agent.server.data.pump import Pump
from agent.server.data.rules import UnauthorizedError
from agent.server.data.secure import Contexts, SecureError, SecureSocket
from agent.server.data.session import Session
from agent.server.data.target import Target
from agent.server.data.width import Width
from agent.server.data.wire import Json, Kind, Stream, WireError

if TYPE_CHECKING:
    from agent.server.data.options import WorkerOptions

FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0
CONNECT_SECONDS = 10.0
LOOK_SECONDS = 0.5  # between looks at a session, at most


class Connector:
    def __init__(self, link: Link, target: Target, options: WorkerOptions, contexts: Contexts) -> None:
        self._link = link
        self._contexts = contexts
        self._turn = 0  # which of our identities the receiver is shown
        link.call_cipher = target.call_cipher
        self._streams = options.streams
        self._loopback_streams = options.loopback_streams
        self._server_uid = options.server_uid
        self._target = target
        self._state: tuple[str, str] = ("", "")
        threading.Thread(target=self._run, name=f"link {link.ident}", daemon=True).start()

    def aim(self, target: Target) -> None:
        """Another way: the present session ends."""
        with self._link.changed:
            changed, self._target = target != self._target, target
            self._link.call_cipher = target.call_cipher
            if changed:
                self._link.broken(self._link.session, "the destination's address was changed")
            self._link.turned.notify_all()

    def _run(self) -> None:
        link = self._link
        pause = FIRST_PAUSE
        while True:
            with link.changed:
                link.turned.wait_for(lambda: link.wanted or link.removed)
                if link.removed:
                    return
                target, level = self._target, self._target.level(link.asked())
            self._tell("negotiating" if self._state[0] != "disconnected" else "", "")
            try:
                session, hello = self._connect(target, level)
            except (OSError, WireError) as error:
                self._tell("disconnected", _explain(error, target))
                self._turn += isinstance(error, UnauthorizedError)
                self._pause(pause)
                pause = min(pause * 2, LAST_PAUSE)
                continue
            started = time.monotonic()
            self._tell("connected", "", _about(session, hello, target))
            self._live(session, target)
            self._tell("disconnected", session.error)
            if session.error and time.monotonic() - started < LAST_PAUSE:
                self._pause(pause)
                pause = min(pause * 2, LAST_PAUSE)
            else:
                pause = FIRST_PAUSE

    def _pause(self, seconds: float) -> None:
        with self._link.changed:
            self._link.turned.wait_for(lambda: self._link.removed, timeout=seconds)

    def _tell(self, state: str, error: str, about: Json | None = None) -> None:
        if not state or (state, error) == self._state:
            return
        self._state = (state, error)
        message: Json = {"op": "destinationState", "id": self._link.ident, "state": state, "error": error}
        self._link.report(message | (about or {}))

    def _connect(self, target: Target, level: int) -> tuple[Session, Json]:
        """A new session with all its streams. OSError or WireError when that does not succeed."""
        streams: list[Stream] = []
        ident = secrets.token_hex(16)
        hello: Json = {}
        try:
            wanted = self._streams
            while len(streams) < wanted:
                stream = self._stream(target, level, len(streams))
                streams.append(stream)
                _same_peer(streams)
                if not stream.level and wire.is_loopback(stream.sock):
                    wanted = min(wanted, self._loopback_streams)
                hello = self._handshake(stream, ident)
            return Session(streams, hello, ident), hello
        except (OSError, WireError):
            for stream in streams:
                stream.sock.close()
            raise

    def _stream(self, target: Target, level: int, number: int) -> Stream:
        return Stream(self._protect(dialing.connect(target, CONNECT_SECONDS), target, level), number)

    def join(self, session: Session, target: Target, number: int) -> Stream:
        """One more stream of a session. OSError or WireError when that does not succeed."""
        stream = self._stream(target, session.level, number)
        try:
            _same_peer([session.streams[0], stream])
            self._handshake(stream, session.ident)
        except (OSError, WireError):
            stream.sock.close()
            raise
        return stream

    def _protect(self, sock: socket.socket, target: Target, level: int) -> socket.socket | SecureSocket:
        """The connection as the session needs it. OSError or WireError; the socket is closed then."""
        try:
            wire.tune(sock)
            if level == secure.PLAIN:
                return sock
            made = secure.connect(sock, self._contexts, level, target.pin, wire.HANDSHAKE_SECONDS)
        except OSError:
            sock.close()
            raise
        shown = made.peer_key or ""
        if target.pin is not None and not keys.same(shown, target.pin):
            made.close()
            raise WireError(
                f"the server at {target.shown} {marks.ANOTHER_KEY} {keys.short(shown)}, but "
                f"destinationPublicKey is {keys.short(target.pin)}: nothing was sent. If its key was "
                "replaced on purpose, create the destination anew with the new one; if not, somebody is in "
                "between"
            )
        return made

    def _handshake(self, stream: Stream, ident: str) -> Json:
        stream.deadline = time.monotonic() + wire.HANDSHAKE_SECONDS
        stream.sock.settimeout(wire.HANDSHAKE_SECONDS)
        stream.sock.sendall(wire.PREAMBLE)
        hello: Json = {
            "protocol": wire.PROTOCOL,
            "features": list(wire.FEATURES),
            "serverUid": self._server_uid,
            "session": ident,
            "stream": stream.number,
        }
        if stream.binding is not None:
            own = self._contexts.own()
            hello |= proof.make(own[self._turn % len(own)], stream.binding)
        stream.send_hello(hello)
        received = stream.receive()
        if received is None:
            raise WireError("the destination closed the connection during the handshake")
        header, payload = received
        answer = wire.decode_json(payload)
        if header.kind == Kind.ERROR and answer.get("code") == wire.UNAUTHORIZED:
            raise UnauthorizedError(str(answer.get("error"))[:1000])
        if header.kind == Kind.ERROR:
            raise WireError(wire.REPORTED + str(answer.get("error"))[:1000])
        if header.kind != Kind.HELLO or answer.get("protocol") != wire.PROTOCOL:
            raise WireError("the destination speaks another data protocol; bring both servers to one version")
        stream.sealed = wire.both_seal(answer)
        stream.deadline = None
        stream.sock.settimeout(None)
        return answer

    def _live(self, session: Session, target: Target) -> None:
        """Run the session's threads to its end."""
        link = self._link
        with link.changed:
            link.connected(session)
            if target != self._target:
                link.broken(session, "")
        threads: list[threading.Thread] = []

        def start(stream: Stream) -> None:
            for role in (Pump(link, session, stream).run, Answers(link, session, stream).run):
                threads.append(threading.Thread(target=role, name="data", daemon=True))
                threads[-1].start()

        for stream in session.streams:
            start(stream)
        width = Width(link, session, lambda number: self.join(session, target, number), start)
        with link.changed:
            while not session.over:
                link.turned.wait(LOOK_SECONDS)
                width.look(time.monotonic())
                idle = time.monotonic() - link.last_used
                if not link.wanted and idle > IDLE_SECONDS:
                    link.broken(session, "")
                if self._target.level(link.asked()) > session.level or session.worn:
                    link.broken(session, "")  # the next one is better
        for thread in threads:
            thread.join()
        for stream in session.streams:
            stream.sock.close()
        link.disconnected()


def _same_peer(streams: list[Stream]) -> None:
    if streams[0].peer_key != streams[-1].peer_key:
        raise WireError("the destination's key has just changed; connecting anew")


def _about(session: Session, hello: Json, target: Target) -> Json:
    """What the control process is told of a new session."""
    stream = session.streams[0]
    return {
        "serverId": str(hello.get("serverId") or ""),
        "serverUid": str(hello.get("serverUid") or ""),
        "encrypted": stream.level != secure.PLAIN,
        "publicKey": stream.peer_key,
        "relayIP": _peer_ip(stream) if target.relay_address else None,
    }


def _peer_ip(stream: Stream) -> str | None:
    try:
        return str(stream.sock.getpeername()[0])
    except OSError:
        return None  # gone already


def _explain(error: Exception, target: Target) -> str:
    if isinstance(error, WireError):
        return str(error)
    if isinstance(error, SecureError):
        return f"{target.shown}: {error}"
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{target.shown} cannot be reached: {why}"
