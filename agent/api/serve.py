"""Serve the app on the agent's Unix socket and on a TCP port, each from a thread of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress

import uvicorn

from agent.api.app import Service, make_app
from agent.api.live import Live
from agent.api.place import SOCKET_NAME, short_path
from agent.api.traffic import MAX_DESTINATIONS, Traffic
from agent.model.outcome import PermanentError

TOKEN_NAME = "token"  # noqa: S105 - a file name
TICK_SECONDS = 1.0


class _Server(uvicorn.Server):
    """With one tick a second instead of ten: all that it does is to set the date."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), TICK_SECONDS)

    def end(self) -> None:
        """From another thread, at any time."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed: it has ended by itself
                self._loop.call_soon_threadsafe(self._ended.set)


class Face:
    """Both listeners. `address` is None when no TCP port was asked for."""

    def __init__(
        self,
        service: Service,
        state_dir: str,
        listen: tuple[str, int] | None,
        hook_secret: bytes | None = None,
        names: Iterable[str] = (),
    ) -> None:
        token = read_token(state_dir)
        self._path = os.path.join(state_dir, SOCKET_NAME)
        self._servers: list[tuple[_Server, threading.Thread]] = []
        self.address: tuple[str, int] | None = None
        self._traffic: Traffic | None = None
        tcp = _tcp(listen) if listen is not None else None
        if tcp is not None:
            self.address = tcp.getsockname()[:2]
            self._traffic = Traffic(lambda: service.lanes(MAX_DESTINATIONS))
            self._traffic.start()
            live = Live(service, self._traffic)
            app = make_app(service, token, trusted=False, hook_secret=hook_secret, live=live, names=names)
            self._start(app, tcp)
        self._start(make_app(service, token, trusted=True), _unix(state_dir))

    def _start(self, app: object, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="http-face", daemon=True
        )
        thread.start()
        self._servers.append((server, thread))

    def stop(self) -> None:
        if self._traffic is not None:
            self._traffic.stop()
        for server, _ in self._servers:
            server.end()
        for _, thread in self._servers:
            thread.join(3.0)
        if os.path.exists(self._path):
            os.unlink(self._path)


def read_token(state_dir: str) -> str:
    """The token that changing calls over TCP must show; made at first use, readable by its owner alone."""
    path = os.path.join(state_dir, TOKEN_NAME)
    if not os.path.exists(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    with open(path, encoding="ascii") as file:
        return file.read(4096).strip()


def _tcp(listen: tuple[str, int]) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in listen[0] else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(listen)
        listener.listen(64)
    except OSError as error:
        listener.close()
        where = f"{listen[0]}:{listen[1]}"
        raise PermanentError(
            f"cannot listen on {where}: {error.strerror}; choose another with --listen (port 0: any free one)"
        ) from error
    return listener


def _unix(state_dir: str) -> socket.socket:
    """The agent holds the state lock, so a socket that is there is a leftover."""
    path = os.path.join(state_dir, SOCKET_NAME)
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with short_path(state_dir) as short:
            listener.bind(short)
    except OSError as error:
        raise PermanentError(f"cannot make the agent's socket {path}: {error}") from error
    finally:
        os.umask(before)
    listener.listen(64)
    return listener
