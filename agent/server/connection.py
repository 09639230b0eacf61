"""One API connection: lines in, each a task; answers out, in the order in which they are ready."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from agent.jetstream.constants import ERROR_INTERNAL, ERROR_INVALID_REQUEST, MAX_MESSAGE_BYTES
from agent.server.channel import Channel
from agent.server.errors import RpcError
from agent.server.farewell import send_last
from agent.server.rpc import Dispatcher, error_line, parse
from agent.server.session import Session

_log = structlog.get_logger(__name__)

READ_SIZE = 64 * 1024
SMALL_LINE = 256 * 1024  # longer ones take a slot of LargeLines
LARGE_LINES = 4
LINE_SECONDS = 60.0  # a line that began must end by then
SEND_SECONDS = 60.0
LINGER_SECONDS = 1.0
MAX_IN_FLIGHT = 1000
MAX_UNSENT = 64 * 1024 * 1024
_BUSY = error_line(
    RpcError(ERROR_INTERNAL, f"{MAX_IN_FLIGHT} requests of this connection are unanswered; wait for some")
)


class _ClosedError(Exception):
    """The connection is over; nothing more to say."""


@dataclass(slots=True)
class Limits:
    """Shared by all connections: how many long lines are in memory at once."""

    large_lines: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_LINES))


class Connection:
    """Owns its channel. Event loop only."""

    def __init__(self, channel: Channel, session: Session, dispatcher: Dispatcher, limits: Limits) -> None:
        self._channel = channel
        self._session = session
        self._dispatcher = dispatcher
        self._limits = limits
        self._buffer = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._unsent = 0

    async def serve(self) -> None:
        """Until the peer closes or breaks the rules. What still waits for it then is dropped."""
        try:
            while True:
                await self._serve_line()
                await asyncio.sleep(0)  # reading does not wait while there is data: let others run
        except (_ClosedError, OSError):
            if self._tasks:  # a peer that closed only its sending side still reads
                await asyncio.wait(self._tasks, timeout=LINGER_SECONDS)
        except RpcError as error:
            await send_last(self._channel, error_line(error))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._channel.close()

    async def _serve_line(self) -> None:
        while not self._buffer:
            await self._fill()
        if b"\n" in self._buffer:
            self._start(self._take_line())
            return
        try:
            async with asyncio.timeout(LINE_SECONDS):
                if await self._read_until(SMALL_LINE):
                    self._start(self._take_line())
                    return
                if self._session.user is None:
                    raise RpcError(
                        ERROR_INVALID_REQUEST,
                        f"messages of more than {SMALL_LINE} bytes are for those who have logged in",
                    )
                async with self._limits.large_lines:
                    if not await self._read_until(MAX_MESSAGE_BYTES):
                        raise RpcError(
                            ERROR_INVALID_REQUEST,
                            f"a message has at most {MAX_MESSAGE_BYTES} bytes; send less",
                        )
                    self._start(self._take_line())
        except TimeoutError:
            raise RpcError(
                ERROR_INVALID_REQUEST,
                f"the message did not end within {LINE_SECONDS:.0f} s; end it with a newline",
            ) from None

    async def _read_until(self, size: int) -> bool:
        """Read to the end of a line; False when more than `size` bytes come before it."""
        searched = 0
        while self._buffer.find(b"\n", searched) < 0:
            searched = len(self._buffer)
            if searched > size:
                return False
            await self._fill()
        return True

    async def _fill(self) -> None:
        data = await self._channel.receive(READ_SIZE)
        if not data:
            raise _ClosedError
        self._buffer += data
        if len(data) == READ_SIZE:
            await asyncio.sleep(0)

    def _take_line(self) -> bytes:
        end = self._buffer.index(b"\n")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _start(self, line: bytes) -> None:
        if not line.strip():
            return
        if len(self._tasks) >= 2 * MAX_IN_FLIGHT:
            raise _ClosedError
        try:
            work = self._send(_BUSY) if len(self._tasks) >= MAX_IN_FLIGHT else self._carry_out(parse(line))
        except RpcError as error:
            work = self._send(error_line(error))
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, message: object) -> None:
        answer = await self._dispatcher.handle(self._session, message)
        if answer is not None:
            await self._send(answer)

    async def _send(self, line: bytes) -> None:
        self._unsent += len(line)
        if self._unsent > MAX_UNSENT:
            self._hang_up("a client does not read its answers")
            return
        try:
            async with self._sending, asyncio.timeout(SEND_SECONDS):
                await self._channel.send(line)
        except TimeoutError:
            self._hang_up("a client did not take an answer in time")
        except OSError:
            self._hang_up(None)
        finally:
            self._unsent -= len(line)

    def _hang_up(self, reason: str | None) -> None:
        """Makes the reader see the end of the stream."""
        if reason is not None:
            _log.warning("connection closed", reason=reason)
        self._channel.hang_up()
