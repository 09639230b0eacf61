"""The relay itself: one port, on which each connection says what it is for."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import structlog

from agent.jetstream import keys
from agent.server.data import wire
from agent.server.farewell import send_last
from agent.server.relay import protocol
from agent.server.relay.control import Link
from agent.server.relay.limits import Limits, Tally
from agent.server.relay.proof import Registration
from agent.server.relay.protocol import Message, ProtocolError, RefusedError
from agent.server.relay.rendezvous import Rendezvous
from agent.server.relay.roster import Receiver, Roster
from agent.server.relay.sessions import Sessions
from agent.server.relay.tls import Certificates

_log = structlog.get_logger(__name__)

_TLS_HANDSHAKE = 0x16
LINGER_SECONDS = 1.0
Arrival = asyncio.Future[socket.socket]


@dataclass(slots=True)
class _Caller:
    """An undecided connection: counted until it is known what it is for."""

    tally: Tally
    host: str
    port: int
    counted: bool = True

    def decided(self) -> None:
        if self.counted:
            self.counted = False
            self.tally.leave(self.host)


class Relay:
    """Event loop only."""

    def __init__(
        self, certificates: Certificates, accepted: tuple[str, ...], limits: Limits | None = None
    ) -> None:
        """`accepted`: keys of receivers that may register; none = all, each under its own."""
        self._limits = limits = limits or Limits()
        self._certificates = certificates
        self._roster: Roster[Link] = Roster(accepted, limits.receivers)
        self._undecided = Tally(limits.undecided, limits.undecided_each)
        self._rendezvous: Rendezvous[Arrival] = Rendezvous(
            limits.waiting, limits.waiting_each, limits.rendezvous_seconds
        )
        self.sessions = Sessions(limits)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, sock: socket.socket) -> None:
        """Accept for ever; cancel to stop. Every connection has ended when this returns."""
        sweeping = asyncio.create_task(self.sessions.sweep())
        try:
            await self._accept(sock)
        finally:
            sweeping.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(sweeping, *self._tasks, return_exceptions=True)

    def receivers(self) -> list[str]:
        """Names of those who are registered."""
        return [receiver.name for receiver in self._roster.all()]

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listening)
            except OSError as error:  # out of descriptors, or the peer left already
                _log.warning("accepting failed", error=str(error))
                await asyncio.sleep(0.1)
                continue
            caller = _Caller(self._undecided, str(peer[0]), int(peer[1]))
            if not self._undecided.enter(caller.host):
                _log.warning("connection refused", reason="too many connections say nothing", peer=peer[0])
                sock.close()
                continue
            task = asyncio.create_task(self._one(sock, caller))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # accepting does not wait while connections are queued: let others run

    async def _one(self, sock: socket.socket, caller: _Caller) -> None:
        try:
            wire.tune(sock)
            await self._decide(sock, caller)
        except (RefusedError, ProtocolError) as error:
            _log.info("connection refused", peer=caller.host, reason=str(error))
            code = error.code if isinstance(error, RefusedError) else "protocol"
            await send_last(sock, protocol.encode("refused", code=code, error=str(error)))
        except (OSError, TimeoutError) as error:
            _log.info("connection lost", peer=caller.host, reason=str(error) or type(error).__name__)
        except Exception:  # noqa: BLE001 - one connection is no reason for all others to suffer
            _log.exception("connection failed", peer=caller.host)
        finally:
            caller.decided()
            sock.close()

    async def _decide(self, sock: socket.socket, caller: _Caller) -> None:
        async with asyncio.timeout(self._limits.decide_seconds):
            message = None if await _is_tls(sock) else await _first_line(sock)
        if message is None:
            await self._control(sock, caller)
        elif message["op"] == "connect":
            await self._connect(sock, caller, message)
        elif message["op"] == "accept":
            self._arrive(sock, message)
            caller.decided()
        else:
            raise ProtocolError("the first line is neither connect nor accept")

    # --- receivers -----------------------------------------------------------------------------------

    async def _control(self, sock: socket.socket, caller: _Caller) -> None:
        link = await self._open_link(sock)

        def enter(found: Registration) -> Receiver[Link]:
            self._require_room(found, link)
            receiver, replaced = self._roster.register(found.keys, found.addresses, link)
            for old in replaced:
                old.link.dismiss("another server has registered with the same key")
            return receiver

        try:
            receiver = await link.greet(enter)
            caller.decided()
            shown = {"receiver": receiver.name, "key": keys.short(receiver.keys[0])}
            _log.info("receiver registered", **shown, peer=link.peer)
            await link.live()
        except (OSError, TimeoutError, ProtocolError, RefusedError) as error:
            reason = str(error) or "nothing was heard of it"
            _log.info("receiver's link ended", peer=link.peer, reason=reason)
            link.dismiss(reason)
        finally:
            self._roster.leave(link)
            link.close()

    def _require_room(self, found: Registration, link: Link) -> None:
        """RefusedError when too many others come from the same address."""
        others = [
            one
            for one in self._roster.all()
            if one.link.host == link.host and not set(one.keys) & set(found.keys)
        ]
        if len(others) >= self._limits.receivers_each:
            limit = self._limits.receivers_each
            raise RefusedError(f"this relay takes at most {limit} receivers of one address")

    async def _open_link(self, sock: socket.socket) -> Link:
        """The socket becomes the link's."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=protocol.MAX_LINE)
        speaker = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: speaker,
            _take(sock),
            ssl=self._certificates.context(),
            ssl_handshake_timeout=self._limits.decide_seconds,
            ssl_shutdown_timeout=LINGER_SECONDS,
        )
        shown = self._certificates.shown(transport.get_extra_info("ssl_object"))
        return Link(reader, asyncio.StreamWriter(transport, speaker, reader, loop), shown, self._limits)

    def _arrive(self, sock: socket.socket, message: Message) -> None:
        """A receiver came to a sender that waits."""
        protocol.require_version(message)
        token = protocol.text(message, "token", 128)
        arrival = self._rendezvous.redeem(token, asyncio.get_running_loop().time())
        if arrival is None or arrival.done():
            raise RefusedError("nobody waits with this token")
        arrival.set_result(_take(sock))

    # --- senders -------------------------------------------------------------------------------------

    async def _connect(self, sock: socket.socket, caller: _Caller, message: Message) -> None:
        protocol.require_version(message)
        receiver = self._find(message)
        with self.sessions.place(caller.host, receiver):
            far = await self._summon(receiver, caller)
            try:
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(self._limits.decide_seconds):
                    for end in (far, sock):
                        await loop.sock_sendall(end, protocol.encode("connected"))
                await self.sessions.run(sock, far, receiver)
            finally:
                far.close()

    def _find(self, message: Message) -> Receiver[Link]:
        if "key" in message:
            name = protocol.text(message, "key", 4096)
            found = self._roster.by_key(name)
        else:
            try:
                host, port = protocol.parse_address(protocol.text(message, "address"))
            except ValueError as error:
                raise ProtocolError(str(error)) from error
            name = protocol.address(host, port)
            found = self._roster.by_address(name)
        if found is None:
            raise RefusedError("no such receiver is registered here", protocol.UNKNOWN_RECEIVER)
        return found

    async def _summon(self, receiver: Receiver[Link], caller: _Caller) -> socket.socket:
        """The receiver's connection for this sender."""
        loop = asyncio.get_running_loop()
        arrival: Arrival = loop.create_future()
        token = self._rendezvous.issue(receiver.keys[0], arrival, loop.time())
        caller.decided()
        far: socket.socket | None = None
        try:
            receiver.link.call(token, protocol.address(caller.host, caller.port))
            async with asyncio.timeout(self._limits.rendezvous_seconds):
                far = await arrival
        except TimeoutError as error:
            raise RefusedError(
                f"the receiver {receiver.name} did not come within {self._limits.rendezvous_seconds:g} s; "
                "see its log"
            ) from error
        except OSError as error:
            raise RefusedError(f"the receiver {receiver.name} was just lost; try again") from error
        finally:
            self._rendezvous.withdraw(token)
            if far is None and not arrival.cancel() and not arrival.cancelled():
                arrival.result().close()  # it came at the last moment
        return far


async def _is_tls(sock: socket.socket) -> bool:
    """Looks at the first byte without taking it."""
    while True:
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock)
            continue
        if not first:
            raise ConnectionResetError("it said nothing")
        return first[0] == _TLS_HANDSHAKE


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


async def _first_line(sock: socket.socket) -> Message:
    """What a plain connection is for. Nothing may follow the line: its peer has to wait for an answer."""
    loop, line = asyncio.get_running_loop(), bytearray()
    while b"\n" not in line:
        if len(line) > protocol.MAX_LINE:
            raise ProtocolError(f"the first line is longer than {protocol.MAX_LINE} bytes")
        data = await loop.sock_recv(sock, protocol.MAX_LINE + 1 - len(line))
        if not data:
            raise ConnectionResetError("it ended in its first line")
        line += data
    if line.index(b"\n") != len(line) - 1:
        raise ProtocolError("more than a line came before the answer")
    return protocol.decode(bytes(line))


def _take(sock: socket.socket) -> socket.socket:
    """The connection for another owner; `sock` is closed by this."""
    taken = socket.socket(fileno=sock.detach())
    taken.setblocking(False)
    return taken
