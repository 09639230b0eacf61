"""One port for two protocols: who came is told apart by the first bytes, which are not taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from agent.server import listener
from agent.server.callers import DATA_PREAMBLE
from agent.server.errors import StartError
from agent.server.listener import Listener, bind

Scenario = Callable[[int, "asyncio.Queue[tuple[str, socket.socket]]"], Awaitable[None]]


def _play(scenario: Scenario) -> None:
    async def run() -> None:
        sock = bind("127.0.0.1", 0)
        arrived: asyncio.Queue[tuple[str, socket.socket]] = asyncio.Queue()

        async def api(found: socket.socket, _tls: bool) -> None:
            arrived.put_nowait(("api", found))

        listening = Listener(sock, api, lambda found, _tls: arrived.put_nowait(("data", found)))
        serving = asyncio.create_task(listening.serve())
        try:
            async with asyncio.timeout(60):
                await scenario(sock.getsockname()[1], arrived)
        finally:
            serving.cancel()
            await listening.close()

    asyncio.run(run())


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("first", [b'{"jsonrpc"', b"[", b" {", b"\r\n{"])
def test_json_and_white_space_are_clients_of_the_api(first: bytes) -> None:
    """Nothing is consumed before the connection is handed over."""

    async def scenario(port: int, arrived: asyncio.Queue[tuple[str, socket.socket]]) -> None:
        _, writer = await _connect(port)
        writer.write(first)
        kind, sock = await arrived.get()
        with sock:
            assert (kind, sock.recv(100)) == ("api", first)
        writer.close()

    _play(scenario)


def test_a_preamble_in_pieces_is_a_data_session() -> None:
    """Undecided bytes are waited for; the session gets them all, in order."""

    async def scenario(port: int, arrived: asyncio.Queue[tuple[str, socket.socket]]) -> None:
        _, writer = await _connect(port)
        for piece in (DATA_PREAMBLE[:1], DATA_PREAMBLE[1:5], DATA_PREAMBLE[5:] + b"HELLO"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        kind, sock = await arrived.get()
        with sock:
            assert (kind, sock.recv(100)) == ("data", DATA_PREAMBLE + b"HELLO")
        writer.close()

    _play(scenario)


@pytest.mark.parametrize("first", [b"", DATA_PREAMBLE[:4]])
def test_who_never_says_what_they_want_is_dropped(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent or half-spoken connection ends after the time limit."""
    monkeypatch.setattr(listener, "DECIDE_SECONDS", 0.2)

    async def scenario(port: int, arrived: asyncio.Queue[tuple[str, socket.socket]]) -> None:
        reader, writer = await _connect(port)
        writer.write(first)
        rest = await reader.read()
        assert rest == b"" or b"JSON-RPC" in rest
        assert arrived.empty()
        writer.close()

    _play(scenario)


def test_who_says_nothing_gives_way_to_newer_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are silent, one that speaks is served; the oldest of the silent ones go."""
    monkeypatch.setattr(listener, "MAX_UNDECIDED", 2)

    async def scenario(port: int, arrived: asyncio.Queue[tuple[str, socket.socket]]) -> None:
        silent = [await _connect(port) for _ in range(3)]
        assert await silent[0][0].read() == b""
        _, speaking = await _connect(port)
        speaking.write(b"{")
        (await arrived.get())[1].close()
        assert await silent[1][0].read() == b""
        silent[2][1].write(b"{")
        (await arrived.get())[1].close()
        for _, writer in (*silent, (None, speaking)):
            writer.close()

    _play(scenario)


def test_data_sessions_are_taken_when_there_are_too_many_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients beyond the limit are told so; the others leave room by leaving."""
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 1)
    staying = asyncio.Event()

    async def run() -> None:
        sock = bind("127.0.0.1", 0)
        data: asyncio.Queue[socket.socket] = asyncio.Queue()

        async def api(found: socket.socket, _tls: bool) -> None:
            with found:
                await staying.wait()
                found.recv(100)

        listening = Listener(sock, api, lambda found, _tls: data.put_nowait(found))
        serving = asyncio.create_task(listening.serve())
        port = sock.getsockname()[1]
        try:
            async with asyncio.timeout(60):
                first, writer = await _connect(port)
                writer.write(b"{")
                second, refused = await _connect(port)
                refused.write(b"{")
                assert b"connections are open" in await second.read()
                _, session = await _connect(port)
                session.write(DATA_PREAMBLE)
                (await data.get()).close()
                staying.set()
                assert await first.read() == b""
                for each in (writer, refused, session):
                    each.close()
        finally:
            serving.cancel()
            await listening.close()

    asyncio.run(run())


def test_a_taken_port_is_named() -> None:
    """The message says which address and what to do."""
    with bind("127.0.0.1", 0) as first, pytest.raises(StartError, match="choose another --listen"):
        bind("127.0.0.1", first.getsockname()[1])
