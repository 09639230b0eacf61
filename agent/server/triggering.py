"""What triggers are told of destinations and transfers."""

from __future__ import annotations

import sqlite3
from typing import Any

from agent.server import triggers
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.store import destinations
from agent.server.store.destinations import Destination
from agent.server.store.transfers import Transfer
from agent.server.triggers import host_port


def destination_created(core: Core, row: Destination) -> None:
    core.triggers.fire(triggers.DESTINATION_CREATED, _where(row), _here(core))


def destination_deleted(core: Core, row: Destination) -> None:
    core.triggers.fire(triggers.DESTINATION_DELETED, _where(row), _here(core))


async def sent(core: Core, row: Transfer) -> None:
    """A transfer ended: `row.status` says how."""
    if core.triggers.knows(triggers.SENT):
        where = await core.database.run(_where_to, row.destination_id)
        counts = (row.total_files, row.total_size)
        core.triggers.fire(triggers.SENT, row.id, row.status, where, row.destination_path, *counts, row.error)


def received(core: Core, known: dict[str, Any]) -> None:
    """A transfer from another server is complete. `known`: its Receive Transfer structure."""
    source = host_port(str(known["sourceIP"]), known["sourcePort"])
    told = (known["transferId"], known["status"], source, known["destinationPath"], known["totalSize"])
    core.triggers.fire(triggers.RECEIVED, *told)


def _where(row: Destination) -> str:
    return host_port(row.ip or row.address, row.port)


def _here(core: Core) -> str:
    return host_port(core.options.host, core.port)


def _where_to(connection: sqlite3.Connection, destination_id: int) -> str:
    try:
        return _where(destinations.get(connection, destination_id))
    except CommandError:
        return ""  # deleted meanwhile
