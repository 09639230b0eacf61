"""The control side of the receiver worker: it is handed data sessions and tells what it receives."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import structlog

from agent.server import triggering
from agent.server.access import Access
from agent.server.authorizing import Authorizer
from agent.server.core import Core
from agent.server.data import sets
from agent.server.data.rules import Rules
from agent.server.ipc import Message
from agent.server.live import Flow
from agent.server.receptions import Receptions
from agent.server.supervisor import Callbacks, Worker

_log = structlog.get_logger(__name__)

MAX_WAITING = 64


class Receiver:
    """Event loop only. The worker starts with the first incoming data session."""

    def __init__(self, core: Core, access: Access, arguments: list[str], keep_fds: tuple[int, ...]) -> None:
        self._core = core
        self._authorizer = Authorizer(core, access)
        self._asked: set[asyncio.Task[None]] = set()
        callbacks = Callbacks(self._ready, self._message, self._gone)
        self._worker = Worker("receiver", arguments, keep_fds, callbacks)
        self.rules = Rules()
        self.allowed: float | None = None
        self.measured: Callable[[], None] = lambda: None  # called when `live` has another rate
        self.receptions = Receptions()
        core.forget_grants = self._forget_grants

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    def accept(self, sock: socket.socket, *, encrypted: bool = False, peer: str = "") -> None:
        """Hand a data session over, unread. `encrypted`: only a TLS session will do. `peer`: the address of
        the sender behind a relay. Refused while too many wait for the worker."""
        self._worker.ensure()
        if self._worker.queued >= MAX_WAITING:
            sock.close()
            return
        sock.setblocking(True)
        self._worker.post({"op": "session", "encrypted": encrypted, "peer": peer}, [sock.detach()])

    def resume(self) -> None:
        """At launch: what an earlier worker was publishing as a set goes on before anybody comes."""
        if any(sets.interrupted(os.fsencode(path)) for path in self._authorizer.roots()):
            self._worker.ensure()

    def limit(self, rate: float | None) -> None:
        """Of all that is received, kbit/s."""
        if rate != self.allowed:
            self.allowed = rate
            if self._worker.ready:
                self._worker.post({"op": "limit", "rate": rate})

    def _forget_grants(self) -> None:
        if self._worker.ready:
            self._worker.post({"op": "forgetGrants"})

    def set_rules(self, rules: Rules) -> None:
        """Whom to receive from; acts on running sessions at once."""
        self.rules = rules
        if self._worker.ready:
            self._tell_rules()

    def _tell_rules(self) -> None:
        self._worker.post({"op": "rules", **self.rules.told()})

    async def _ready(self) -> None:
        """Sessions are in the worker's queue already and wait for the rules."""
        self._worker.post({"op": "roots", "paths": self._authorizer.roots()})
        self._worker.post({"op": "limit", "rate": self.allowed})
        self._tell_rules()

    async def _gone(self) -> None:
        """Senders reconnect; what was being received is interrupted, not failed."""
        self._core.live.receiving = Flow()
        self.receptions.interrupted(self._core.clock.wall_us())

    async def _message(self, message: Message) -> None:
        if message.get("op") == "rates":
            self._core.live.receiving = Flow(float(message["receiving"]), bool(message["short"]))
            self.measured()
            return
        op, now = message.get("op"), self._core.clock.wall_us()
        if op == "authorize":
            task = asyncio.create_task(self._authorize(message), name="authorize")
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
        elif op == "recvProgress":
            self.receptions.progress(message["transfers"], now)
        elif op == "recvTransfer":
            completed = self.receptions.note(message, now)
            if completed is not None:
                triggering.received(self._core, completed)
        else:
            _log.warning("unknown message from the receiver", op=str(op)[:40])

    async def _authorize(self, message: Message) -> None:
        """Others need not wait for a password check."""
        self._worker.post(await self._authorizer.answer(message))

    async def stop(self) -> None:
        for task in self._asked:
            task.cancel()
        await self._worker.stop()
