"""Who may speak to the API at all: from this machine plainly or over TLS, from others over TLS if allowed."""

from __future__ import annotations

import asyncio
import socket

import structlog

from agent.jetstream.constants import ERROR_AUTHENTICATION
from agent.server.channel import Channel, PlainChannel, TlsChannel
from agent.server.errors import RpcError, StartError
from agent.server.farewell import send_last
from agent.server.options import is_loopback
from agent.server.rpc import error_line
from agent.server.tls import ServerContexts

_log = structlog.get_logger(__name__)

HANDSHAKE_SECONDS = 10.0


class RefusedError(OSError):
    """The connection was closed, and its peer told why as far as it listens."""


class Gate:
    """Event loop only."""

    def __init__(self, contexts: ServerContexts, *, remote: bool) -> None:
        self._contexts = contexts
        self._remote = remote

    async def admit(self, sock: socket.socket, *, encrypted: bool) -> tuple[Channel, str]:
        """The peer's channel and address. OSError when it is refused or gone; the socket is closed then."""
        try:
            peer = str(sock.getpeername()[0])
            channel = await self._encrypt(sock, peer) if encrypted else PlainChannel(sock)
            await self._check(channel, peer, encrypted=encrypted)
        except BaseException:
            sock.close()
            raise
        return channel, peer

    async def _encrypt(self, sock: socket.socket, peer: str) -> Channel:
        try:
            channel = TlsChannel(sock, self._contexts.current())
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await channel.handshake()
        except (OSError, TimeoutError, StartError) as error:
            _log.warning("connection closed", peer=peer, reason=f"no TLS was agreed on: {error}")
            raise RefusedError(str(error)) from error
        return channel

    async def _check(self, channel: Channel, peer: str, *, encrypted: bool) -> None:
        why = self._refusal(peer, encrypted=encrypted)
        if why:
            _log.warning("connection closed", peer=peer, reason=why)
            await send_last(channel, error_line(RpcError(ERROR_AUTHENTICATION, why)))
            raise RefusedError(why)

    def _refusal(self, peer: str, *, encrypted: bool) -> str:
        """Why a peer is not let in; empty when it is."""
        if is_loopback(peer):
            return ""
        if not self._remote:
            return (
                "this server takes commands from its own machine only; start it with --allow-remote-control"
            )
        return "" if encrypted else "this server takes commands from other hosts only over TLS"
