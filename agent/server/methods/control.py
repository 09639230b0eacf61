"""`send.*` that change transfers: suspend, resume, fail, delete, priority and rate."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from agent.server import states, structures, triggering
from agent.server.clock import since_request
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.methods import checks
from agent.server.orders import Order, order_for
from agent.server.params import Priority, Rate, Text, TransferId
from agent.server.registry import command
from agent.server.sending import Sender
from agent.server.session import Session
from agent.server.store import destinations, manifests, objects, transfers
from agent.server.store.scope import Scope
from agent.server.store.transfers import Transfer

Rule = Callable[[int, str], None]


class ControlMethods:
    def __init__(self, core: Core, sender: Sender) -> None:
        self._core = core
        self._sender = sender
        self._locks: dict[int, asyncio.Lock] = {}
        self._waiting: dict[int, int] = {}  # holders and waiters of each lock

    @asynccontextmanager
    async def _alone(self, transfer_id: int) -> AsyncIterator[None]:
        """Changes of one transfer's state wait for each other."""
        lock = self._locks.setdefault(transfer_id, asyncio.Lock())
        self._waiting[transfer_id] = self._waiting.get(transfer_id, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[transfer_id] -= 1
            if not self._waiting[transfer_id]:
                del self._waiting[transfer_id], self._locks[transfer_id]

    async def check(self, session: Session, transferId: int, **_: object) -> None:
        await self._core.database.run(transfers.get, transferId, session.scope)

    async def _stop(
        self, scope: Scope, transfer_id: int, rule: Rule, status: str, message: str, *, discard: bool
    ) -> Transfer:
        """Stop sending, then store the new state; refused by `rule`, also when the transfer ended while
        it was being stopped."""
        transfer = await self._core.database.run(transfers.get, transfer_id, scope)
        rule(transfer.id, transfer.status)
        await self._sender.stop_transfer(transfer, discard=discard)
        stopped = await self._core.database.run(self._store_stop, transfer_id, rule, status, message)
        if self._sender.works_on(transfer_id):  # a new worker took it up from the store in between
            await self._sender.stop_transfer(transfer, discard=discard)
        self._core.live.progress.pop(transfer_id, None)
        self._core.events.post("transfer", transfer_id)
        return stopped

    def _store_stop(
        self, connection: sqlite3.Connection, transfer_id: int, rule: Rule, status: str, message: str
    ) -> Transfer:
        row = transfers.get(connection, transfer_id)
        rule(row.id, row.status)
        ended = None
        if status == states.ERROR:
            ended = since_request(row.request_us, row.request_clock_us, self._core.clock)
        stopped = replace(row, status=status, error=message, end_us=ended)
        transfers.save(connection, stopped)
        now = since_request(row.request_us, row.request_clock_us, self._core.clock)
        self._core.logs.status(stopped, now)
        return stopped

    @command("send.suspendTransfer", twin=True, check="check")
    async def suspend(self, session: Session, transferId: TransferId) -> dict[str, Any]:
        async with self._alone(transferId):
            rule = states.require_suspendable
            await self._stop(session.scope, transferId, rule, states.SUSPENDED, "", discard=False)
            return await self._core.database.run(self._structure, transferId)

    @command("send.failTransfer")
    async def fail(self, session: Session, transferId: TransferId, errorMessage: Text | None = None) -> None:
        message = errorMessage or "the transfer was failed by a call of failTransfer"
        async with self._alone(transferId):
            rule = states.require_failable
            await self._stop(session.scope, transferId, rule, states.ERROR, message, discard=True)
            failed = await self._core.database.run(transfers.find, transferId)
            if failed is not None:
                await triggering.sent(self._core, failed)

    @command("send.resumeTransfer", twin=True, check="check")
    async def resume(self, session: Session, transferId: TransferId) -> dict[str, Any]:
        async with self._alone(transferId):
            order = await self._core.database.run(self._store_resume, session.scope, transferId)
            self._sender.start(order)
            self._core.events.post("transfer", transferId)
            return await self._core.database.run(self._structure, transferId)

    def _structure(self, connection: sqlite3.Connection, transfer_id: int) -> dict[str, Any]:
        row = transfers.get(connection, transfer_id)
        data = objects.user_data(connection, [row.id])[row.id]
        return structures.transfer(row, self._core.live.counters(row), self._core.clock, data)

    def _store_resume(self, connection: sqlite3.Connection, scope: Scope, transfer_id: int) -> Order:
        row = transfers.get(connection, transfer_id, scope)
        states.require_resumable(row.id, row.status)
        queued = since_request(row.request_us, row.request_clock_us, self._core.clock)
        resumed = replace(row, status=states.RESUMING, queue_us=queued)
        transfers.save(connection, resumed)
        self._core.logs.status(resumed, queued)
        return order_for(connection, resumed)

    @command("send.deleteTransfer")
    async def delete(self, session: Session, transferId: TransferId) -> None:
        async with self._alone(transferId):
            transfer = await self._core.database.run(transfers.get, transferId, session.scope)
            states.require_deletable(transfer.id, transfer.status)
            if transfer.status == states.SUSPENDED:
                await self._sender.stop_transfer(transfer, discard=True)
            await self._core.database.run(_delete, transferId)
            self._core.events.post("transfer", transferId, transfer)

    @command("send.setTransferPriority", twin=True, check="check_priority")
    async def set_priority(
        self,
        session: Session,
        transferId: TransferId,
        priority: Priority | None = None,
        priorityLane: Text | None = None,
    ) -> dict[str, Any]:
        _require_change(priority, priorityLane)

        def change(row: Transfer) -> Transfer:
            wanted = row.priority if priority is None else priority
            return replace(row, priority=wanted, lane=priorityLane or row.lane)

        await self._change(session.scope, transferId, change, priorityLane)
        return {"transferId": str(transferId)}

    async def check_priority(
        self, session: Session, transferId: int, priority: int | None, priorityLane: str | None
    ) -> None:
        _require_change(priority, priorityLane)
        await self._core.database.run(_check_lane, session.scope, transferId, priorityLane)

    @command("send.setTransferSendRateMax", twin=True, check="check")
    async def set_rate(self, session: Session, transferId: TransferId, sendRateMax: Rate) -> dict[str, Any]:
        rate = checks.unlimited(sendRateMax)
        await self._change(session.scope, transferId, lambda row: replace(row, rate_max=rate), None)
        return {"sendRateMax": sendRateMax}

    async def _change(
        self, scope: Scope, transfer_id: int, change: Callable[[Transfer], Transfer], lane: str | None
    ) -> None:
        def work(connection: sqlite3.Connection) -> Transfer:
            row = _check_lane(connection, scope, transfer_id, lane)
            changed = change(row)
            transfers.save(connection, changed)
            return changed

        changed = await self._core.database.run(work)
        self._sender.update(changed)
        self._core.events.post("transfer", transfer_id)


def _require_change(priority: int | None, lane: str | None) -> None:
    if priority is None and lane is None:
        raise CommandError("setTransferPriority needs priority, priorityLane or both")


def _check_lane(connection: sqlite3.Connection, scope: Scope, transfer_id: int, lane: str | None) -> Transfer:
    row = transfers.get(connection, transfer_id, scope)
    if lane is not None:
        checks.lane(destinations.get(connection, row.destination_id), lane)
    return row


def _delete(connection: sqlite3.Connection, transfer_id: int) -> None:
    row = transfers.get(connection, transfer_id)
    states.require_deletable(row.id, row.status)
    transfers.delete(connection, transfer_id)
    manifests.purge(connection, 1000)
