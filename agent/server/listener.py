"""The one TCP port: accepts, looks at the first bytes without taking them, and tells apart who came.

`{`, `[` or white space   a client of the API
`LSDATA/1` and a newline  another server's data session: handed to the receiver, unread
`LSFIND/1` and a newline  a server that asks from which address it is seen
0x16                      a TLS ClientHello
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import structlog

from agent.jetstream.constants import ERROR_INVALID_REQUEST
from agent.server.errors import RpcError, StartError
from agent.server.farewell import send_last
from agent.server.rpc import error_line

_log = structlog.get_logger(__name__)

DATA_PREAMBLE = b"LSDATA/1\n"
DISCOVER_PREAMBLE = b"LSFIND/1\n"
_PREAMBLES = (DATA_PREAMBLE, DISCOVER_PREAMBLE)  # of one length
DECIDE_SECONDS = 10.0
POLL_SECONDS = 0.005  # between looks at a preamble that arrives in parts
MAX_UNDECIDED = 256
MAX_CONNECTIONS = 1024
BACKLOG = 512
_WHITE_SPACE = b" \t\r\n"

_NEITHER = RpcError(
    ERROR_INVALID_REQUEST,
    "this port speaks JSON-RPC 2.0, one object a line, and the data protocol of transfer servers",
)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. StartError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise StartError(
            f"cannot listen on {host}:{port} ({error.strerror}); stop what uses it or choose another --listen"
        ) from error
    return sock


class Listener:
    """Event loop only. `api` and `discover` serve a connection to its end; `data` takes the socket over."""

    def __init__(
        self,
        sock: socket.socket,
        api: Callable[[socket.socket], Awaitable[None]],
        data: Callable[[socket.socket], None],
        discover: Callable[[socket.socket], Awaitable[None]] | None = None,
    ) -> None:
        self._sock = sock
        self._api = api
        self._data = data
        self._discover = discover
        self._tasks: set[asyncio.Task[None]] = set()
        self._undecided = 0

    async def serve(self) -> None:
        """Accept for ever; cancel to stop."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._sock)
            except OSError as error:  # out of descriptors, or the peer left already
                _log.warning("accepting failed", error=str(error))
                await asyncio.sleep(0.1)
                continue
            if self._undecided >= MAX_UNDECIDED or len(self._tasks) >= MAX_CONNECTIONS:
                _log.warning(
                    "connection refused", reason="too many connections", connections=len(self._tasks)
                )
                sock.close()
                continue
            self._undecided += 1
            task = asyncio.create_task(self._serve_one(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # accepting does not wait while connections are queued: let others run

    async def close(self) -> None:
        """Stop listening and end every connection."""
        self._sock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve_one(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = await self._peek(sock)
        except OSError:  # the peer left already
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        finally:
            self._undecided -= 1
        if first == DATA_PREAMBLE:
            self._data(sock)
        elif first == DISCOVER_PREAMBLE and self._discover is not None:
            await self._discover(sock)
        elif first[:1] in (b"{", b"[") or (first and first[0] in _WHITE_SPACE):
            await self._api(sock)
        else:
            await _turn_away(sock, first)

    async def _peek(self, sock: socket.socket) -> bytes:
        """The first bytes, unconsumed: the whole preamble, or as much as shows that it is none."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DECIDE_SECONDS
        await _readable(sock, DECIDE_SECONDS)
        while True:
            try:
                first = sock.recv(len(DATA_PREAMBLE), socket.MSG_PEEK)
            except OSError:
                return b""
            begun = any(preamble.startswith(first) for preamble in _PREAMBLES)
            undecided = begun and len(first) < len(DATA_PREAMBLE)
            if not first or not undecided or loop.time() > deadline:
                return first
            await asyncio.sleep(POLL_SECONDS)


async def _readable(sock: socket.socket, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock.fileno(), wake)
    try:
        await asyncio.wait_for(ready, timeout)
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(sock.fileno())


async def _turn_away(sock: socket.socket, first: bytes) -> None:
    with sock:
        if first[:1] == b"\x16":
            _log.warning("connection closed", reason="TLS is not available yet")
        elif first:
            _log.warning("connection closed", reason="neither JSON-RPC nor a data session")
            await send_last(sock, error_line(_NEITHER))
