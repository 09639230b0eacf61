"""A last line to a peer before its connection is closed."""

from __future__ import annotations

import asyncio
import socket

from agent.server.channel import Channel, PlainChannel

LINGER_SECONDS = 1.0
_READ_SIZE = 64 * 1024


async def send_last(peer: Channel | socket.socket, line: bytes) -> None:
    """Send, then read away for a moment what the peer still sends: closing on unread bytes would reset the
    connection and take the line from the peer."""
    channel = PlainChannel(peer) if isinstance(peer, socket.socket) else peer
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await channel.send(line)
            await channel.end()
            while await channel.receive(_READ_SIZE):
                pass
    except (OSError, TimeoutError):
        pass
