"""Relays and what stands on both sides of them, for tests: in this process or as one of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from servers import Server

from agent.jetstream import keys
from agent.server import identity
from agent.server.identity import Identities
from agent.server.relay.limits import Limits
from agent.server.relay.service import Relay
from agent.server.relay.tls import Certificates
from agent.server.relay.way import Way
from agent.server.relaying import RelayLink


class Key:
    """A receiver's key."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = keys.encode(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: list[asyncio.Task[None]] = []

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Its result, worked out in the loop's thread."""

        async def work() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(10)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.call(self.loop.create_task, work)
        self._tasks.append(task)
        return task

    def cancel(self, task: asyncio.Task[None]) -> None:
        async def work() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(work(), self.loop).result(10)

    def close(self) -> None:
        for task in self._tasks:
            self.cancel(task)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)
        self.loop.close()


class LocalRelay:
    """A relay on a free port of this machine; `restart` keeps the port."""

    def __init__(self, loop: Loop, folder: Path, accepted: tuple[str, ...], limits: Limits) -> None:
        self._loop = loop
        self._arguments = (accepted, limits)
        self.folder = folder
        self.key = identity.ensure(folder, ["127.0.0.1"], time.time()).public_key
        self._identities = Identities(folder)
        self._address = ("127.0.0.1", 0)
        self.start()

    def start(self) -> None:
        self._sock = socket.create_server(self._address, backlog=512)
        self._sock.setblocking(False)
        self._address = self._sock.getsockname()
        self.relay = Relay(Certificates(self._identities), *self._arguments)
        self._task = self._loop.start(self.relay.serve(self._sock))

    def stop(self) -> None:
        self._loop.cancel(self._task)
        self._sock.close()

    @property
    def port(self) -> int:
        return self._address[1]

    @property
    def way(self) -> Way:
        return Way("127.0.0.1", self.port, self.key)

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, 10)


class LocalReceiver:
    """A receiver behind a relay: the connections that reach it are in `arrived`, blocking."""

    def __init__(self, loop: Loop, way: Way, addresses: tuple[str, ...] = (), key: Key | None = None) -> None:
        self.key = key or Key()
        self.keys = [self.key]
        self.arrived: list[socket.socket] = []
        self.peers: list[str] = []
        self._loop = loop
        self.link = RelayLink(way, lambda: self.keys, addresses, self._deliver)
        self._task = loop.start(self.link.run())

    async def _deliver(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(True)
        self.peers.append(peer)
        sock.settimeout(20)
        self.arrived.append(sock)

    def stop(self) -> None:
        self._loop.cancel(self._task)


@contextlib.contextmanager
def relay_world(folder: Path, *accepted: str, **limits: Any) -> Iterator[tuple[Loop, LocalRelay]]:
    """A loop and a relay in it."""
    loop = Loop()
    try:
        relay = LocalRelay(loop, folder, accepted, Limits(**limits))
        yield loop, relay
        relay.stop()
    finally:
        loop.close()


class RelayProcess(Server):
    """One `lanesync relay`."""

    def _command(self, ready_fd: int) -> list[str]:
        command = [sys.executable, "-m", "agent.cli.main", "relay", "--ready-fd", str(ready_fd)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--state-dir", str(self.state_dir)]
        for name, value in self._options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        return command

    @property
    def key(self) -> str:
        return Identities(self.state_dir).current().public_key

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class Between:
    """A TCP hop in front of `port` that sees, and may change, what passes from who connects to it."""

    def __init__(self, port: int) -> None:
        self.alter: Callable[[bytes], bytes] = bytes
        self.seen = bytearray()
        self._target = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                for pair in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, forth: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.seen += data
                sink.sendall(self.alter(data) if forth else data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()
