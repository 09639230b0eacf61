"""A connection of the API as bytes in and bytes out, plain or TLS. Event loop only."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Protocol

_READ_SIZE = 64 * 1024
_WRITE_SIZE = 256 * 1024


class Channel(Protocol):
    async def receive(self, size: int) -> bytes:
        """At least one byte; none at the end. OSError when the connection is lost."""

    async def send(self, data: bytes) -> None:
        """All of it, one call at a time. OSError; an interrupted call leaves the connection useless."""

    async def end(self) -> None:
        """Nothing more is sent."""

    def hang_up(self) -> None:
        """Makes who receives see the end."""

    def close(self) -> None: ...


class PlainChannel:
    """Owns its socket (non-blocking)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def receive(self, size: int) -> bytes:
        return await self._loop.sock_recv(self._sock, size)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def end(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected any more, which is the aim

    def close(self) -> None:
        self._sock.close()


class TlsChannel:
    """TLS as the server, over a plain channel."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = PlainChannel(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._flushing = asyncio.Lock()

    async def handshake(self) -> None:
        """OSError (ssl.SSLError is one) when the peer does not speak TLS as we do."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError:
                await self._flush()  # the alert that tells the peer why
                raise
        await self._flush()

    async def receive(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), _WRITE_SIZE):
            self._tls.write(view[at : at + _WRITE_SIZE])
            await self._flush()

    async def end(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it waits for the peer's own end, which need not come
        await self._flush()
        await self._plain.end()

    def hang_up(self) -> None:
        self._plain.hang_up()

    def close(self) -> None:
        self._plain.close()

    async def _flush(self) -> None:
        """Send what TLS has made, in the order in which it was made."""
        async with self._flushing:
            data = self._outgoing.read()
            if data:
                await self._plain.send(data)

    async def _feed(self) -> None:
        data = await self._plain.receive(_READ_SIZE)
        await asyncio.sleep(0)  # there may always be more: let others run
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
