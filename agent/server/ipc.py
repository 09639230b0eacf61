"""Messages between the control process and its data workers, over a Unix stream socketpair.

A message is a 4-byte big-endian length and that many bytes of JSON (an object, ASCII). File descriptors
ride with SCM_RIGHTS beside the first byte of their message, whose key "fds" says how many they are.
`Channel` blocks (workers); `AsyncChannel` is for the control process's event loop. Both may be used by
several senders at once and by one receiver. The end of the stream is `None`, not an error: a peer that
died is the ordinary case.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]
Received = tuple[Message, list[int]]

MAX_MESSAGE = 16 * 1024 * 1024
MAX_FDS = 8
_READ_SIZE = 256 * 1024
_HEADER = struct.Struct(">I")


class IpcError(Exception):
    """The peer broke the framing: oversized, not JSON, or descriptors that were announced and not sent."""


def encode(message: Message, fds: Sequence[int] = ()) -> bytes:
    """The bytes of one message. ValueError when it is larger than MAX_MESSAGE."""
    if fds:
        message = {**message, "fds": len(fds)}
    body = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_MESSAGE:
        raise ValueError(f"message {message.get('op')!r} has {len(body)} bytes, more than {MAX_MESSAGE}")
    return _HEADER.pack(len(body)) + body


class Decoder:
    """Bytes and descriptors in, whole messages out, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> None:
        self._buffer += data
        self._fds.extend(fds)

    def next(self) -> Received | None:
        """The next whole message, or None when more bytes are needed."""
        if len(self._buffer) < _HEADER.size:
            return None
        (size,) = _HEADER.unpack_from(self._buffer)
        if size > MAX_MESSAGE:
            raise IpcError(f"a message of {size} bytes was announced, the limit is {MAX_MESSAGE}")
        end = _HEADER.size + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise IpcError("a message is not JSON") from error
        if not isinstance(message, dict):
            raise IpcError("a message is not an object")
        count = message.pop("fds", 0)
        if not isinstance(count, int) or not 0 <= count <= len(self._fds):
            raise IpcError("a message announces descriptors that did not arrive")
        return message, [self._fds.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close descriptors that nobody took."""
        while self._fds:
            os.close(self._fds.popleft())


class Channel:
    """The blocking end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(True)
        self._decoder = Decoder()
        self._lock = threading.Lock()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one message; the caller keeps (and closes) its own copies of the descriptors. OSError when
        the peer is gone."""
        data = encode(message, fds)
        with self._lock:
            sent = socket.send_fds(self._sock, [data], list(fds)) if fds else 0
            self._sock.sendall(memoryview(data)[sent:])

    def receive(self) -> Received | None:
        """Wait for one message; None at the end of the stream."""
        while True:
            received = self._decoder.next()
            if received is not None:
                return received
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, _READ_SIZE, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError:
                data, fds = b"", []
            if not data:
                return None
            self._decoder.feed(data, fds)

    def close(self) -> None:
        self._decoder.close()
        self._sock.close()


class AsyncChannel:
    """The event loop's end. One task may be in `receive` at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._decoder = Decoder()
        self._lock = asyncio.Lock()

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one message; the caller keeps its own copies of the descriptors. OSError when the peer is
        gone."""
        data = encode(message, fds)
        async with self._lock:
            sent = await self._send_fds(data, fds) if fds else 0
            await asyncio.get_running_loop().sock_sendall(self._sock, memoryview(data)[sent:])

    async def receive(self) -> Received | None:
        """Wait for one message; None at the end of the stream."""
        while True:
            received = self._decoder.next()
            if received is not None:
                return received
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, _READ_SIZE, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._wait(readable=True)
                continue
            except ConnectionError:
                return None
            if not data:
                return None
            self._decoder.feed(data, fds)

    def close(self) -> None:
        self._decoder.close()
        self._sock.close()

    async def _send_fds(self, data: bytes, fds: Sequence[int]) -> int:
        while True:
            try:
                return socket.send_fds(self._sock, [data], list(fds))
            except BlockingIOError:
                await self._wait(readable=False)

    async def _wait(self, *, readable: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        fd = self._sock.fileno()
        add, remove = (
            (loop.add_reader, loop.remove_reader) if readable else (loop.add_writer, loop.remove_writer)
        )
        add(fd, wake)
        try:
            await ready
        finally:
            remove(fd)


def socketpair() -> tuple[socket.socket, socket.socket]:
    """(control's end, worker's end); the worker's end is inheritable by number (`pass_fds`)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.set_inheritable(True)
    return ours, theirs
