"""Discover packets over TCP: a small connection that tells who opens it from which address it is seen.

The asking server sends `LSFIND/1` and a newline to the port of another one; that one answers with a line of
JSON, `{"address": …, "port": …}`, and closes. Between the two lie whatever translates addresses. Nothing else
is told, so nobody has to log in for it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from agent.server.callers import DISCOVER_PREAMBLE
from agent.server.confine import reason
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.farewell import send_last

ANSWER_SECONDS = 10.0
MAX_ANSWER = 4096
MAX_WAITING = 1000
Structure = dict[str, Any]


class Discovery:
    """Event loop only."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: set[asyncio.Future[Structure]] = set()

    async def serve(self, sock: socket.socket) -> None:
        """Answer one packet and close."""
        with sock:
            try:
                address, port = sock.getpeername()[:2]
            except OSError:
                return  # gone already
            seen = {"sourceIP": address, "sourcePort": port, "receivedTime": self._core.clock.wall_us()}
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_result(seen)
            answer = {"address": address, "port": port, "serverUid": self._core.server_uid}
            await send_last(sock, json.dumps(answer).encode("ascii") + b"\n")

    async def received(self, timeout: float) -> Structure | None:
        """The next packet that arrives; None when the time is over first."""
        if len(self._waiting) >= MAX_WAITING:
            raise CommandError(f"{MAX_WAITING} calls wait for discover packets already; try again later")
        waiting: asyncio.Future[Structure] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            return await asyncio.wait_for(waiting, timeout)
        except TimeoutError:
            return None
        finally:
            self._waiting.discard(waiting)


async def ask(address: str, port: int) -> Structure:
    """How the server at address and port sees us. CommandError when it cannot be asked."""
    where = f"{address}:{port}"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(address, port, limit=MAX_ANSWER)
            try:
                writer.write(DISCOVER_PREAMBLE)
                line = await reader.readuntil(b"\n")
                own = writer.get_extra_info("sockname")
            finally:
                writer.close()
        found = json.loads(line)
        seen = {"address": str(found["address"]), "port": int(found["port"])}
    except TimeoutError:
        raise CommandError(f"{where} did not answer within {ANSWER_SECONDS:.0f} s") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, KeyError, TypeError):
        raise CommandError(f"{where} does not answer discover packets; is it a transfer server?") from None
    except OSError as error:
        raise CommandError(f"{where} cannot be reached: {reason(error)}") from None
    uid = found.get("serverUid")
    return {
        **seen,
        "localAddress": own[0],
        "localPort": own[1],
        "serverUid": uid[:64] if isinstance(uid, str) else None,
    }
