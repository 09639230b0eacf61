"""A TCP hop whose line can be cut, stalled, spoilt or left half open."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

_RESET = struct.pack("ii", 1, 0)


class Hop:
    """Between whoever connects to `port` and a server of this machine. For any thread."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.connections = 0
        self.carried = 0  # bytes towards the server
        self.alter: Callable[[bytes], bytes] = bytes
        self.altering: Callable[[bool], Callable[[bytes], bytes]] | None = None
        """Makes what alters one connection in one direction (towards the server or not)."""
        self.greet = True  # whether connections are passed on, or left without any answer
        self._tells = True  # one side of the end of the other
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Nothing passes, in either direction; connections stand."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def cut(self, *, reset: bool = True) -> None:
        """End all connections, as a crash of a router does (reset) or in good order."""
        with self._lock:
            ended, self._open = self._open, []
        for sock in ended:
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def cut_one_side(self) -> None:
        """The server hears the end of all connections; who connected hears nothing, for good."""
        self._tells = False
        with self._lock:
            far = self._open[1::2]
        for sock in far:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.flow()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self.connections += 1
                with self._lock:
                    self._open.append(near)
                if not self.greet:
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._open.append(far)
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, forth: bool) -> None:
        alter = self.altering(forth) if self.altering is not None else None
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                if forth:
                    self.carried += len(data)
                    data = self.alter(data)
                if alter is not None:
                    data = alter(data)
                sink.sendall(data)
        if not self._tells:
            return
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
