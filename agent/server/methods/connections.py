"""`send.*` about connections: what destinations that reach the same server share."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

from agent.server import structures
from agent.server.core import Core
from agent.server.live import Link
from agent.server.methods import checks
from agent.server.params import Boolean, ConnectionId, Count, Floor, Rate, Small
from agent.server.registry import command
from agent.server.sending import Sender
from agent.server.session import Session
from agent.server.store import destinations, transfers
from agent.server.store.destinations import Connection
from agent.server.store.scope import Scope

Found = tuple[Connection, list[int], int]
_RATES = {"rate_min", "rate_max", "rate"}
_FIELDS = {
    "sendRateMin": "rate_min",
    "sendRateMax": "rate_max",
    "sendRate": "rate",
    "rateControlEnabled": "rate_control",
    "rateControlMethod": "rate_method",
}


class ConnectionMethods:
    def __init__(self, core: Core, sender: Sender) -> None:
        self._core = core
        self._sender = sender

    @command("send.getConnection")
    async def get_connection(self, session: Session, connectionId: ConnectionId) -> dict[str, Any]:
        return self._connection(*await self._core.database.run(_read_connection, connectionId, session.scope))

    @command("send.getConnections")
    async def get_connections(self, session: Session, limit: Count = 0) -> list[dict[str, Any]]:
        found = await self._core.database.run(_read_connections, limit, session.scope)
        return [self._connection(*each) for each in found]

    def _connection(self, row: Connection, sharing: list[int], queued: int) -> dict[str, Any]:
        live = self._core.live
        links = [live.links[found] for found in sharing if found in live.links]
        order = ("disconnected", "negotiating", "connected")
        best = max(links, key=lambda link: (order.index(link.state), link.last_recv_us or 0), default=Link())
        return structures.connection(row, best, queued, live.connections.get(row.id, 0.0))

    @command("send.updateConnectionParams", twin=True, check="check_connection")
    async def update_connection(
        self,
        session: Session,
        connectionId: ConnectionId,
        sendRateMin: Floor | None = None,
        sendRateMax: Rate | None = None,
        sendRate: Rate | None = None,
        rateControlEnabled: Boolean | None = None,
        rateControlMethod: Small | None = None,
    ) -> None:
        """-1 takes a rate back; what is not given stays."""
        given = {
            "sendRateMin": sendRateMin,
            "sendRateMax": sendRateMax,
            "sendRate": sendRate,
            "rateControlEnabled": rateControlEnabled,
            "rateControlMethod": rateControlMethod,
        }
        scope = session.scope

        def change(connection: sqlite3.Connection) -> None:
            destinations.put_connection(connection, _changed(connection, connectionId, scope, given))

        await self._core.database.run(change)
        await self._sender.refresh(connectionId)

    async def check_connection(self, session: Session, connectionId: int, **given: Any) -> None:
        await self._core.database.run(_changed, connectionId, session.scope, given)


def _changed(
    connection: sqlite3.Connection, connection_id: int, scope: Scope, given: dict[str, Any]
) -> Connection:
    """The connection as it is to be. CommandError naming the rule that the values break."""
    row = destinations.get_connection(connection, connection_id, scope)
    destinations.require_sole_use(connection, connection_id, scope)
    changes = {_FIELDS[name]: value for name, value in given.items() if value is not None}
    changes |= {field: checks.unlimited(changes[field]) for field in _RATES & changes.keys()}
    changed = replace(row, **changes)
    checks.connection_rates(changed.rate_min, changed.rate, changed.rate_max)
    checks.rate_method(given["rateControlMethod"])
    return changed


def _read_connection(connection: sqlite3.Connection, connection_id: int, scope: Scope) -> Found:
    row = destinations.get_connection(connection, connection_id, scope)
    seen = destinations.get_all(connection, scope=scope)
    sharing = [found.id for found in seen if found.connection_id == connection_id]
    counts = transfers.active_counts(connection)
    return row, sharing, sum(counts.get(found, 0) for found in sharing)


def _read_connections(connection: sqlite3.Connection, limit: int, scope: Scope) -> list[Found]:
    rows = destinations.get_connections(connection, limit, scope)
    counts = transfers.active_counts(connection)
    sharing: dict[int, list[int]] = {row.id: [] for row in rows}
    for found in destinations.get_all(connection, scope=scope):
        if found.connection_id in sharing:
            sharing[found.connection_id].append(found.id)
    return [(row, sharing[row.id], sum(counts.get(found, 0) for found in sharing[row.id])) for row in rows]
