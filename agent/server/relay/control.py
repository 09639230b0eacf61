"""A receiver's control link, seen from the relay: registration, heartbeats, and word of senders."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from agent.server.relay import proof, protocol
from agent.server.relay.limits import Limits
from agent.server.relay.proof import Registration
from agent.server.relay.protocol import ProtocolError
from agent.server.relay.roster import Receiver

MAX_UNSENT = 256 * 1024
SEND_SECONDS = 10.0


class Link:
    """One TLS connection. Event loop only."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        relay_key: str,
        limits: Limits,
    ) -> None:
        """`reader` is made with the limit `protocol.MAX_LINE`."""
        self._reader = reader
        self._writer = writer
        self._relay_key = relay_key
        self._limits = limits
        self.host, port = writer.get_extra_info("peername")[:2]
        self.peer = protocol.address(self.host, port)

    async def greet(self, enter: Callable[[Registration], Receiver[Link]]) -> Receiver[Link]:
        """Have the receiver register with `enter`, which raises RefusedError to turn it away. ProtocolError
        and OSError (time-outs too) end the link as well."""
        nonce = secrets.token_hex(32)
        self._send(protocol.encode("welcome", relay=protocol.VERSION, nonce=nonce))
        async with asyncio.timeout(self._limits.decide_seconds):
            line = await self._line()
        receiver = enter(proof.check(protocol.decode(line), nonce, self._relay_key))
        self._send(protocol.encode("registered", keys=receiver.keys, addresses=receiver.addresses))
        return receiver

    async def live(self) -> None:
        """Answer heartbeats until the receiver leaves, is silent for too long or breaks the protocol."""
        while True:
            async with asyncio.timeout(self._limits.dead_seconds):
                line = await self._line()
            if protocol.decode(line)["op"] != "ping":
                raise ProtocolError("a registered receiver sends nothing but ping")
            self._send(protocol.encode("pong"))
            async with asyncio.timeout(SEND_SECONDS):
                await self._writer.drain()

    def call(self, token: str, peer: str) -> None:
        """Tell the receiver of a sender. OSError when the link is of no more use."""
        self._send(protocol.encode("incoming", token=token, peer=peer))

    def dismiss(self, error: str) -> None:
        """Close it, and tell the receiver why as far as it still listens."""
        try:
            self._send(protocol.encode("refused", error=error[: protocol.MAX_TEXT]))
        except OSError:
            pass  # it does not
        self.close()

    def close(self) -> None:
        self._writer.close()

    async def _line(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the receiver closed the link") from error
        except asyncio.LimitOverrunError as error:
            raise ProtocolError(f"a line is longer than {protocol.MAX_LINE} bytes") from error

    def _send(self, line: bytes) -> None:
        transport = self._writer.transport
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()
        if transport.is_closing():
            raise ConnectionResetError("the link is closed")
        self._writer.write(line)
