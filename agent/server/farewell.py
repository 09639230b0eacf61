"""A last line to a peer before its connection is closed."""

from __future__ import annotations

import asyncio
import socket

LINGER_SECONDS = 1.0
_READ_SIZE = 64 * 1024


async def send_last(sock: socket.socket, line: bytes) -> None:
    """Send, then read away for a moment what the peer still sends: closing on unread bytes would reset the
    connection and take the line from the peer."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await loop.sock_sendall(sock, line)
            sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(sock, _READ_SIZE):
                pass
    except (OSError, TimeoutError):
        pass
