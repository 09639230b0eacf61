"""The one TCP port: accepts, looks at the first bytes without taking them, and hands over to whom it is for.

A data session goes to the receiver unread, TLS or not: what carries out commands never reads a byte of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import structlog

from agent.jetstream.constants import ERROR_INTERNAL, ERROR_INVALID_REQUEST
from agent.server.callers import Caller, cut_short, recognise
from agent.server.errors import RpcError, StartError
from agent.server.farewell import send_last
from agent.server.rpc import error_line

_log = structlog.get_logger(__name__)

DECIDE_SECONDS = 10.0
LOOK = 2048  # bytes that a first look is for: most ClientHellos are whole then
MAX_UNDECIDED = 256
MAX_CONNECTIONS = 1024
BACKLOG = 512

_NEITHER = RpcError(
    ERROR_INVALID_REQUEST,
    "this port speaks JSON-RPC 2.0, one object a line, and the data protocol of transfer servers",
)
_FULL = RpcError(
    ERROR_INTERNAL, f"{MAX_CONNECTIONS} connections are open at this server; close some, or try again later"
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
    """Event loop only. `api` and `discover` serve a connection to its end, `data` takes the socket over;
    `api` and `data` are told whether the peer speaks TLS."""

    def __init__(
        self,
        sock: socket.socket,
        api: Callable[[socket.socket, bool], Awaitable[None]],
        data: Callable[[socket.socket, bool], None],
        discover: Callable[[socket.socket], Awaitable[None]] | None = None,
    ) -> None:
        self._sock = sock
        self._api = api
        self._data = data
        self._discover = discover
        self._tasks: set[asyncio.Task[None]] = set()
        self._undecided: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._served = 0  # connections that are answered here: all but data sessions

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
            if len(self._undecided) >= MAX_UNDECIDED:
                self._give_up_oldest()
            task = asyncio.create_task(self._serve_one(sock))
            self._undecided[task] = None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # accepting does not wait while connections are queued: let others run

    def _give_up_oldest(self) -> None:
        """Who says nothing does not keep out who needs a moment only."""
        oldest = next(iter(self._undecided))
        del self._undecided[oldest]
        oldest.cancel()
        _log.warning("connection closed", reason=f"{MAX_UNDECIDED} newer ones have not said what they want")

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
            caller = await _who(sock)
        except OSError:  # the peer left already
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        finally:
            self._decided()
        if caller in (Caller.DATA, Caller.DATA_TLS):
            self._data(sock, caller is Caller.DATA_TLS)
        elif self._served >= MAX_CONNECTIONS:
            _refuse(sock, caller)
        else:
            self._served += 1
            try:
                await self._answer(sock, caller)
            finally:
                self._served -= 1

    def _decided(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._undecided.pop(task, None)

    async def _answer(self, sock: socket.socket, caller: Caller) -> None:
        if caller in (Caller.API, Caller.API_TLS):
            await self._api(sock, caller is Caller.API_TLS)
        elif caller is Caller.DISCOVER and self._discover is not None:
            await self._discover(sock)
        else:
            await _turn_away(sock, caller)


async def _who(sock: socket.socket) -> Caller:
    """Look at what has arrived, without taking it, until that tells who it is. A peer that is slow at it
    costs nothing meanwhile: the kernel wakes us when there is as much as the next look needs."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DECIDE_SECONDS
    found: Caller | int = 1
    while isinstance(found, int):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, found)
        await _readable(sock, deadline - loop.time())
        try:
            first = sock.recv(max(found, LOOK), socket.MSG_PEEK)
        except BlockingIOError:
            return Caller.NOBODY
        if len(first) < found:  # it ended, or the time is over
            return cut_short(first)
        found = recognise(first)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return found


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


def _refuse(sock: socket.socket, caller: Caller) -> None:
    """Beyond the limit: the reason, if the peer can read it and takes it at once."""
    _log.warning("connection refused", reason="too many connections", connections=MAX_CONNECTIONS)
    with sock:
        if caller is Caller.API:
            try:
                sock.recv(LOOK * 32)  # closing on unread bytes would take the reason from the peer
                sock.send(error_line(_FULL))
            except OSError:
                pass  # it is refused anyway


async def _turn_away(sock: socket.socket, caller: Caller) -> None:
    with sock:
        if caller is Caller.BAD_TLS:
            _log.warning("connection closed", reason="its TLS ClientHello is malformed")
        elif caller is not Caller.NOBODY:
            _log.warning("connection closed", reason="neither JSON-RPC nor a data session")
            await send_last(sock, error_line(_NEITHER))
