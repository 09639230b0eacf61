"""Two connected sockets made one: bytes pass as they are, in both directions, until both have ended.

A sink that takes nothing more stops the reading from its source, so at most `CHUNK` bytes of a direction are
in memory (docs/relay.md has what was measured). All on the event loop's thread, without a task per session.
"""

from __future__ import annotations

import asyncio
import socket

CHUNK = 256 * 1024
ROUNDS = 4  # chunks of one direction before others have their turn


class _Direction:
    """Bytes from one socket to the other. `over` once its end has been passed on, or nobody takes it."""

    def __init__(self, splice: Splice, source: socket.socket, sink: socket.socket) -> None:
        self._splice = splice
        self._source = source
        self._sink = sink
        self._rest: bytes | memoryview = b""  # read and not yet written
        self._writing = False
        self.passed = 0
        self.over = False

    def start(self) -> None:
        self._splice.loop.add_reader(self._source, self._move)

    def _move(self) -> None:
        """Called when the source has something to read, or the sink takes what is left."""
        try:
            for _ in range(ROUNDS):
                if not self._flush() or not self._read():
                    break
        except BlockingIOError:
            pass
        except OSError:  # either side is gone: nothing of this direction can arrive any more
            self._end()
        self._watch()

    def _flush(self) -> bool:
        """Whether nothing is left."""
        if self._rest:
            self._rest = self._rest[self._send(self._rest) :]
        return not self._rest

    def _read(self) -> bool:
        """Read and pass on once; False when the source ended or the sink is full. BlockingIOError when there
        is nothing to read."""
        shared = self._splice.buffer
        count = self._source.recv_into(shared)
        if count == 0:
            self._end()
            return False
        try:
            sent = self._send(shared[:count])
        except BlockingIOError:
            sent = 0
        if sent < count:
            self._rest = memoryview(bytes(shared[sent:count]))
        return sent == count

    def _send(self, data: bytes | memoryview) -> int:
        sent = self._sink.send(data)
        self.passed += sent
        return sent

    def _end(self) -> None:
        self.over = True
        self._rest = b""
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # not connected any more, which is the aim

    def _watch(self) -> None:
        """Wait for the one event that lets this direction go on."""
        loop, left = self._splice.loop, bool(self._rest)
        if self.over:
            self.stop()
            self._splice.ended()
        elif left != self._writing:
            self._writing = left
            if left:
                loop.remove_reader(self._source)
                loop.add_writer(self._sink, self._move)
            else:
                loop.remove_writer(self._sink)
                loop.add_reader(self._source, self._move)

    def stop(self) -> None:
        self._splice.loop.remove_reader(self._source)
        self._splice.loop.remove_writer(self._sink)


class Splice:
    """Owns both sockets (non-blocking, connected). Event loop only."""

    def __init__(self, one: socket.socket, other: socket.socket, buffer: memoryview) -> None:
        """`buffer` is read into by all sessions of a loop: what a sink does not take at once is copied out
        before the next read."""
        self.buffer = buffer
        self.loop = asyncio.get_running_loop()
        self._sockets = (one, other)
        self._directions = (_Direction(self, one, other), _Direction(self, other, one))
        self._closed = False
        self.over: asyncio.Future[None] = self.loop.create_future()
        for direction in self._directions:
            direction.start()

    @property
    def passed(self) -> tuple[int, int]:
        """Bytes from the one to the other, and back."""
        return self._directions[0].passed, self._directions[1].passed

    @property
    def half(self) -> bool:
        """Whether one direction has ended and the other has not."""
        return any(direction.over for direction in self._directions) and not self.over.done()

    def ended(self) -> None:
        if all(direction.over for direction in self._directions):
            self.close()

    def close(self) -> None:
        """End it, whatever is under way. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for direction in self._directions:
            direction.stop()
        for sock in self._sockets:
            sock.close()
        if not self.over.done():  # who waited for it may have been cancelled, and it with them
            self.over.set_result(None)
