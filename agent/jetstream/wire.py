"""One connection to a control port: JSON-RPC 2.0, one message per line, many calls at once.

A reader thread hands every answer to the call that waits for it, so that a call which blocks for long
(`waitForTransfer`) holds up no other. Text is Unicode with surrogateescape: a lone surrogate travels as
the JSON escape `\\udcXX`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from agent.jetstream.constants import MAX_MESSAGE_BYTES
from agent.jetstream.errors import (
    ConnectionFailedError,
    JetstreamError,
    ProtocolError,
    RequestTimeoutError,
    command_error,
)

_RECEIVE_BYTES = 256 * 1024
_SEND_STALL_SECONDS = 60


def encode(message: dict[str, Any]) -> bytes:
    """One line. Non-ASCII text goes as UTF-8, half as long as escapes; lone surrogates as escapes."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


class Connection:
    """Connected from construction until `close()` or until the other end is gone; never reopened.

    Raises ConnectionFailedError when nobody answers within `timeout` seconds.
    """

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.address = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise ConnectionFailedError(_why_not(self.address, error, timeout)) from error
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stall = struct.pack("@ll", _SEND_STALL_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, stall)
        self._ids = itertools.count(1)
        self._writing = threading.Lock()
        self._waiting_lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._failure: JetstreamError | None = None
        threading.Thread(target=self._read, name=f"jetstream {self.address}", daemon=True).start()

    @property
    def closed(self) -> bool:
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
        answer: Future[Any] = Future()
        with self._waiting_lock:
            if self._failure is not None:
                raise _again(self._failure)
            self._waiting[number] = answer
        try:
            self._send(line)
            return answer.result(timeout)
        except FutureTimeoutError:
            raise RequestTimeoutError(
                f"{self.address} did not answer {method} within {timeout:g} s"
            ) from None
        finally:
            with self._waiting_lock:
                self._waiting.pop(number, None)

    def close(self) -> None:
        """Drop the connection; calls that wait raise ConnectionFailedError. Idempotent."""
        self._fail(ConnectionFailedError(f"the connection to {self.address} was closed"))

    def _send(self, line: bytes) -> None:
        try:
            with self._writing:
                self._socket.sendall(line)
        except OSError as error:
            # After a partial write the stream is of no use to anyone.
            broken = ConnectionFailedError(f"the connection to {self.address} broke: {error}")
            self._fail(broken)
            raise broken from error

    def _read(self) -> None:
        buffer = bytearray()
        try:
            while block := self._socket.recv(_RECEIVE_BYTES):
                searched = len(buffer)
                buffer += block
                while (end := buffer.find(b"\n", searched)) >= 0:
                    self._deliver(buffer[:end])
                    del buffer[: end + 1]
                    searched = 0
                if len(buffer) > MAX_MESSAGE_BYTES:
                    raise ProtocolError(
                        f"{self.address} sent a line longer than {MAX_MESSAGE_BYTES} bytes; ask for less "
                        "at a time (limit=…)"
                    )
            self._fail(ConnectionFailedError(f"{self.address} closed the connection"))
        except OSError as error:
            self._fail(ConnectionFailedError(f"the connection to {self.address} broke: {error}"))
        except JetstreamError as error:
            self._fail(error)

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
        with self._waiting_lock:
            answer = self._waiting.pop(number, None) if isinstance(number, int) else None
        if answer is None:
            return
        if "error" in message:
            answer.set_exception(command_error(message["error"]))
        else:
            answer.set_result(message["result"])

    def _fail(self, error: JetstreamError) -> None:
        with self._waiting_lock:
            if self._failure is not None:
                return
            self._failure = error
            waiting = list(self._waiting.values())
            self._waiting.clear()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for answer in waiting:
            answer.set_exception(_again(error))


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
