"""The control side of the receiver worker: it is handed data sessions and tells what it receives."""

from __future__ import annotations

import socket
from typing import Any

import structlog

from agent.server import triggering
from agent.server.core import Core
from agent.server.data.rules import Rules
from agent.server.ipc import Message
from agent.server.supervisor import Callbacks, Worker

_log = structlog.get_logger(__name__)

MAX_TRANSFERS = 1000
MAX_WAITING = 64
_FIELDS = (
    "sourceIP",
    "sourcePort",
    "destinationPath",
    "status",
    "totalSize",
    "lastErrorTime",
    "lastRecvTime",
    "lastSendTime",
)


class Receiver:
    """Event loop only. The worker starts with the first incoming data session."""

    def __init__(self, core: Core, arguments: list[str], keep_fds: tuple[int, ...]) -> None:
        self._core = core
        callbacks = Callbacks(self._ready, self._message, self._gone)
        self._worker = Worker("receiver", arguments, keep_fds, callbacks)
        self.rules = Rules()
        self.transfers: dict[str, dict[str, Any]] = {}  # by the sender's uid, latest change last

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    def accept(self, sock: socket.socket, *, encrypted: bool = False) -> None:
        """Hand a data session over, unread. `encrypted`: only a TLS session will do. Refused while too many
        wait for the worker."""
        self._worker.ensure()
        if self._worker.queued >= MAX_WAITING:
            sock.close()
            return
        sock.setblocking(True)
        self._worker.post({"op": "session", "encrypted": encrypted}, [sock.detach()])

    def set_rules(self, rules: Rules) -> None:
        """Whom to receive from; acts on running sessions at once."""
        self.rules = rules
        if self._worker.ready:
            self._tell_rules()

    def _tell_rules(self) -> None:
        self._worker.post({"op": "rules", **self.rules.told()})

    async def _ready(self) -> None:
        """Sessions are in the worker's queue already and wait for this."""
        self._tell_rules()

    async def _gone(self) -> None:
        """Senders reconnect; what was being received is interrupted, not failed."""
        now = self._core.clock.wall_us()
        for transfer in self.transfers.values():
            if transfer["status"] == "receiving":
                transfer["lastErrorTime"] = now

    async def _message(self, message: Message) -> None:
        if message.get("op") != "recvTransfer":
            _log.warning("unknown message from the receiver", op=str(message.get("op"))[:40])
            return
        uid = str(message["uid"])
        now = self._core.clock.wall_us()
        known = self.transfers.pop(uid, {"transferId": uid})
        before = known.get("status")
        known |= {field: message.get(field, known.get(field)) for field in _FIELDS}
        known["lastRecvTime"] = message.get("lastRecvTime") or now
        if known["status"] == "error":
            known["lastErrorTime"] = message.get("lastErrorTime") or now
        self.transfers[uid] = known
        if known["status"] == "complete" != before:
            triggering.received(self._core, known)
        if len(self.transfers) > MAX_TRANSFERS:
            del self.transfers[next(iter(self.transfers))]

    async def stop(self) -> None:
        await self._worker.stop()
