"""Being reached through a relay: a control link that is kept up for ever, and the way to each sender."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from agent.jetstream import keys
from agent.server.core import Core
from agent.server.errors import StartError
from agent.server.live import RelayState
from agent.server.receiving import Receiver
from agent.server.relay import proof, protocol, tls
from agent.server.relay.proof import Signer
from agent.server.relay.protocol import Message, ProtocolError, RefusedError
from agent.server.relay.way import Way, parse_way

_log = structlog.get_logger(__name__)

FIRST_PAUSE, LAST_PAUSE = 0.2, 15.0
CONNECT_SECONDS = 10.0
MAX_COMING = 64  # ways to senders that are being made at once

Deliver = Callable[[socket.socket, str], Awaitable[None]]


def link(core: Core, receiver: Receiver) -> RelayLink:
    """As `--recv-relay` asks for it."""
    serve = core.options

    async def deliver(sock: socket.socket, peer: str) -> None:
        receiver.accept(sock, encrypted=True, peer=peer)

    outside = serve.external_address or protocol.address(socket.gethostname(), core.port)
    way = parse_way(serve.recv_relay, serve.recv_relay_key)
    made = RelayLink(way, lambda: core.identities.valid(time.time()), (outside,), deliver)
    core.live.relay = made.state
    return made


class RelayLink:
    """Event loop only. `signers` answers the keys of this server at the time it is asked; `deliver` takes
    over a connection that begins with what a sender sends."""

    def __init__(
        self,
        relay: Way,
        signers: Callable[[], Sequence[Signer]],
        addresses: tuple[str, ...],
        deliver: Deliver,
    ) -> None:
        self._way = relay
        self._signers = signers
        self._addresses = addresses
        self._registered: tuple[str, ...] = ()  # keys
        self._deliver = deliver
        self._coming: set[asyncio.Task[None]] = set()
        self.state = RelayState(relay.host, relay.port)
        self.since = 0.0  # of the present registration, by the loop's clock

    async def run(self) -> None:
        """Register, and register anew with growing pauses whenever the link is lost; cancel to stop."""
        pause = FIRST_PAUSE
        try:
            while True:
                started = asyncio.get_running_loop().time()
                try:
                    await self._live()
                except (OSError, TimeoutError, ProtocolError, RefusedError, StartError) as error:
                    self._tell(error)
                if self.state.registered and asyncio.get_running_loop().time() - started > LAST_PAUSE:
                    pause = FIRST_PAUSE
                self.state.registered = False
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads those who return
                pause = min(pause * 2, LAST_PAUSE)
        finally:
            for task in self._coming:
                task.cancel()
            await asyncio.gather(*self._coming, return_exceptions=True)

    def _tell(self, error: Exception) -> None:
        """Once, not at each new try."""
        reason = _words(error)
        if reason != self.state.trouble:
            _log.warning("not registered at the relay; trying on", relay=self._way.shown, reason=reason)
        self.state.trouble = reason

    async def _live(self) -> None:
        """One link, from its connection to its end."""
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                self._way.host,
                self._way.port,
                limit=protocol.MAX_LINE,
                ssl=tls.receiver_context(),
                server_hostname=keys.server_name(self._way.key) if self._way.key else self._way.host,
            )
        try:
            await self._register(reader, writer)
            self.state.registered, self.state.trouble = True, ""
            self.since = asyncio.get_running_loop().time()
            pinging = asyncio.create_task(self._ping(writer))
            try:
                await self._listen(reader, writer)
            finally:
                pinging.cancel()
                await asyncio.gather(pinging, return_exceptions=True)
        finally:
            writer.transport.abort()

    async def _register(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        key = tls.relay_key(connection, self._way.key)
        async with asyncio.timeout(CONNECT_SECONDS):
            welcome = await _receive(reader)
            if welcome["op"] != "welcome":
                raise ProtocolError("no LaneSync relay answers there")
            protocol.require_version(welcome)
            nonce = protocol.text(welcome, "nonce", 128)
            signers = list(self._signers())
            writer.write(proof.register(signers, self._addresses, nonce, key))
            answer = await _receive(reader)
        if answer["op"] != "registered":
            raise RefusedError(f"the relay refuses: {protocol.excerpt(answer)}")
        _log.info("registered at the relay", relay=self._way.shown, relay_key=key, addresses=self._addresses)
        self._registered = tuple(signer.public_key for signer in signers)
        if not self._way.key:
            _log.info("the relay's key is not checked", remedy=f"--recv-relay-key {key}")

    async def _ping(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(self._way.ping_seconds)
            writer.write(protocol.encode("ping"))

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the relay is silent for too long, leaves or breaks the protocol, or our keys have changed."""
        where = writer.get_extra_info("peername")[:2]
        while tuple(signer.public_key for signer in self._signers()) == self._registered:
            try:
                async with asyncio.timeout(self._way.dead_seconds):
                    message = await _receive(reader)
            except TimeoutError as error:
                raise ConnectionResetError("nothing was heard of it any more") from error
            if message["op"] == "incoming":
                self._come(message, where)
            elif message["op"] == "refused":
                raise RefusedError(f"the relay ends the link: {protocol.excerpt(message)}")
            elif message["op"] != "pong":
                raise ProtocolError("the relay says what a receiver does not understand")

    # --- senders -------------------------------------------------------------------------------------

    def _come(self, message: Message, where: tuple[str, int]) -> None:
        token = protocol.text(message, "token", 128)
        try:
            peer = protocol.address(*protocol.parse_address(protocol.text(message, "peer", 128)))
        except ValueError as error:
            raise ProtocolError(f"the relay names a sender badly: {error}") from error
        if len(self._coming) >= MAX_COMING:
            _log.warning("a sender was left waiting at the relay", peer=peer, reason="too many at once")
            return
        task = asyncio.create_task(self._meet(token, peer, where))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    async def _meet(self, token: str, peer: str, where: tuple[str, int]) -> None:
        """Connect to the relay for one sender. The same relay: its address is that of the link."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                sock = await _join(token, where)
        except (OSError, TimeoutError, ProtocolError, RefusedError) as error:
            _log.warning("a sender was not reached through the relay", peer=peer, reason=_words(error))
            return
        await self._deliver(sock, peer)


def _words(error: Exception) -> str:
    """For people."""
    if isinstance(error, ssl.SSLError):
        return f"no LaneSync relay answers there ({error.reason or 'no TLS'})"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error)


async def _join(token: str, where: tuple[str, int]) -> socket.socket:
    """A connection to the sender that the token stands for."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, where)
        await loop.sock_sendall(sock, protocol.encode("accept", relay=protocol.VERSION, token=token))
        await _connected(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def _receive(reader: asyncio.StreamReader) -> Message:
    try:
        return protocol.decode(await reader.readuntil(b"\n"))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("it closed the link") from error
    except asyncio.LimitOverrunError as error:
        raise ProtocolError(f"a line is longer than {protocol.MAX_LINE} bytes") from error


async def _connected(sock: socket.socket) -> None:
    """Wait for the relay's word that bytes are passed on. Byte by byte: what follows it is the sender's."""
    loop, line = asyncio.get_running_loop(), bytearray()
    while not line.endswith(b"\n"):
        if len(line) > protocol.MAX_ANSWER:
            raise ProtocolError("the relay's answer is too long")
        data = await loop.sock_recv(sock, 1)
        if not data:
            raise ConnectionResetError("the relay closed the connection")
        line += data
    answer = protocol.decode(bytes(line))
    if answer["op"] != "connected":
        raise RefusedError(protocol.excerpt(answer))
