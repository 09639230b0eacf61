"""One connection to a control port: JSON-RPC 2.0, one message per line, many calls at once.

There is no reader thread: of the calls that wait, one reads the socket and hands out every answer, and when
it has its own it passes the reading on. So a lone call costs no thread switch, and a call that blocks for
long (`waitForTransfer`) holds up no other. Text is Unicode with surrogateescape: a lone surrogate travels as
the JSON escape `\\udcXX`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from typing import Any

from agent.jetstream import transport
from agent.jetstream.constants import MAX_MESSAGE_BYTES
from agent.jetstream.errors import (
    ConnectionFailedError,
    JetstreamError,
    ProtocolError,
    RequestTimeoutError,
    command_error,
)
from agent.jetstream.transport import Security

_RECEIVE_BYTES = 256 * 1024
_NOTHING_ASKED = Security()


def encode(message: dict[str, Any]) -> bytes:
    """One line. Non-ASCII text goes as UTF-8, half as long as escapes; lone surrogates as escapes."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


class _Waiter:
    """A call that waits. `wake`: its answer is here, or the reading has been passed on to it."""

    __slots__ = ("done", "error", "result", "wake")

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.done = False
        self.result: Any = None
        self.error: JetstreamError | None = None

    def finish(self, result: Any, error: JetstreamError | None) -> None:
        self.result, self.error, self.done = result, error, True
        self.wake.set()


class Connection:
    """Connected from construction until `close()` or until the other end is gone; never reopened.

    Raises ConnectionFailedError when nobody answers within `timeout` seconds, UntrustedServerError when it is
    not the server that `security` asks for.
    """

    def __init__(self, host: str, port: int, timeout: float, security: Security = _NOTHING_ASKED) -> None:
        self.address = f"{host}:{port}"
        try:
            self._transport = transport.connect(host, port, timeout, security)
        except ConnectionFailedError:
            raise
        except OSError as error:
            raise ConnectionFailedError(_why_not(self.address, error, timeout)) from error
        self._ids = itertools.count(1)
        self._buffer = bytearray()
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._state = threading.Lock()  # guards the two below
        self._waiting: dict[int, _Waiter] = {}
        self._failure: JetstreamError | None = None

    @property
    def closed(self) -> bool:
        """Notices also that the other end hung up while nobody was waiting."""
        if self._failure is None and self._reading.acquire(blocking=False):
            try:
                if self._transport.ended():
                    self._fail(ConnectionFailedError(f"{self.address} closed the connection"))
            except OSError as error:
                self._fail(ConnectionFailedError(f"the connection to {self.address} broke: {error}"))
            finally:
                self._stop_reading()
                self._pass_on()
        return self._failure is not None

    def call(self, method: str, params: dict[str, Any], timeout: float | None) -> Any:
        """Send one request and return its result; None waits for as long as it takes.

        Raises CommandError, RequestTimeoutError, ConnectionFailedError or ProtocolError.
        """
        number = next(self._ids)
        line = encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        if len(line) > MAX_MESSAGE_BYTES:
            raise ProtocolError(
                f"{method}: the message has {len(line)} bytes, {MAX_MESSAGE_BYTES} are allowed; "
                "send fewer entries at a time"
            )
        waiter = _Waiter()
        with self._state:
            if self._failure is not None:
                raise _again(self._failure)
            self._waiting[number] = waiter
        try:
            self._send(line)
            if not self._wait(waiter, timeout):
                raise RequestTimeoutError(f"{self.address} did not answer {method} within {timeout:g} s")
        finally:
            with self._state:
                self._waiting.pop(number, None)
            self._pass_on()
        if waiter.error is not None:
            raise waiter.error
        return waiter.result

    def close(self) -> None:
        """Drop the connection; calls that wait raise ConnectionFailedError. Idempotent."""
        self._fail(ConnectionFailedError(f"the connection to {self.address} was closed"))
        if self._reading.acquire(blocking=False):
            self._stop_reading()

    def _send(self, line: bytes) -> None:
        try:
            with self._writing:
                self._transport.send(line)
        except OSError as error:
            # After a partial write the stream is of no use to anyone.
            broken = ConnectionFailedError(f"the connection to {self.address} broke: {error}")
            self._fail(broken)
            raise broken from error

    def _wait(self, waiter: _Waiter, timeout: float | None) -> bool:
        """Whether the answer came in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not waiter.done:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._reading.acquire(blocking=False):
                try:
                    self._read(waiter, deadline)
                finally:
                    self._stop_reading()
            else:
                waiter.wake.wait(left)
                waiter.wake.clear()
        return True

    def _pass_on(self) -> None:
        """Whoever stops reading, or stops waiting to read, wakes another that waits."""
        with self._state:
            waiter = next(iter(self._waiting.values()), None)
        if waiter is not None:
            waiter.wake.set()

    def _stop_reading(self) -> None:
        """Only who reads may close: a descriptor that is closed under a reader may be somebody else's."""
        if self._failure is not None:
            self._transport.close()
        self._reading.release()

    def _read(self, waiter: _Waiter, deadline: float | None) -> None:
        """Read and hand out answers until `waiter` has its own, the time is up or the connection broke."""
        try:
            while not waiter.done and self._failure is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return
                block = self._transport.receive(_RECEIVE_BYTES, left)
                if block is None:
                    return
                if not block:
                    raise ConnectionFailedError(f"{self.address} closed the connection")
                self._take(block)
        except OSError as error:
            broken = ConnectionFailedError(f"the connection to {self.address} broke: {error}")
            self._fail(error if isinstance(error, JetstreamError) else broken)
        except JetstreamError as error:
            self._fail(error)

    def _take(self, block: bytes) -> None:
        buffer, searched = self._buffer, len(self._buffer)
        buffer += block
        while (end := buffer.find(b"\n", searched)) >= 0:
            self._deliver(buffer[:end])
            del buffer[: end + 1]
            searched = 0
        if len(buffer) > MAX_MESSAGE_BYTES:
            raise ProtocolError(
                f"{self.address} sent a line longer than {MAX_MESSAGE_BYTES} bytes; ask for less at a time "
                "(limit=…)"
            )

    def _deliver(self, line: bytearray) -> None:
        """Hand one answer over. Answers that nobody waits for any more are dropped."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not ("result" in message or "error" in message):
            raise ProtocolError(f"{self.address} does not speak the JetStream API; check host and port")
        number = message.get("id")
        if number is None:
            reason = command_error(message.get("error"))
            raise ProtocolError(f"{self.address} refused the connection: {reason}")
        with self._state:
            waiter = self._waiting.pop(number, None) if isinstance(number, int) else None
        if waiter is not None:
            error = command_error(message["error"]) if "error" in message else None
            waiter.finish(message.get("result"), error)

    def _fail(self, error: JetstreamError) -> None:
        """The first failure is the one that everybody sees."""
        with self._state:
            if self._failure is not None:
                return
            self._failure = error
            waiting = list(self._waiting.values())
            self._waiting.clear()
        with contextlib.suppress(OSError):
            self._transport.shutdown()
        for waiter in waiting:
            waiter.finish(None, _again(error))


def _again(error: JetstreamError) -> JetstreamError:
    """The same error for one more thread: a traceback belongs to one raise."""
    return type(error)(*error.args)


def _why_not(address: str, error: OSError, timeout: float) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {address}; start the server there, or check host and port"
    if isinstance(error, TimeoutError):
        return f"{address} did not answer within {timeout:g} s; check that the host is up and the port open"
    if isinstance(error, socket.gaierror):
        return f"the host of {address} is not known ({error.strerror}); check its spelling"
    return f"{address} cannot be reached: {error.strerror or error}"
