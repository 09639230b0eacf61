"""What the sender is to do, read from the store: transfers with their destinations and effective rates."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from agent.server.store import destinations, transfers
from agent.server.store.destinations import Destination
from agent.server.store.transfers import Transfer


@dataclass(frozen=True, slots=True)
class Order:
    """A transfer that the sender is to work on, with all that it needs."""

    transfer: Transfer
    destination: Destination
    rate: float | None  # of the destination, connection limits included
    shared_limit: bool  # the connection has a limit of its own, so others' shares change


def effective_rate(connection: sqlite3.Connection, destination: Destination) -> float | None:
    """kbit/s for a destination: its own limit, and its share of its connection's. Destinations that reach
    the same server share the connection's limit evenly while they have transfers."""
    shared = destinations.get_connection(connection, destination.connection_id).rate_max
    if shared is None:
        return destination.rate_max
    busy = transfers.active_counts(connection)
    rows = connection.execute(
        "SELECT id FROM destinations WHERE connection_id=?", (destination.connection_id,)
    )
    sharing = sum(1 for (found,) in rows if found in busy or found == destination.id)
    share = shared / max(1, sharing)
    return share if destination.rate_max is None else min(share, destination.rate_max)


def order_for(connection: sqlite3.Connection, transfer: Transfer) -> Order:
    destination = destinations.get(connection, transfer.destination_id)
    shared = destinations.get_connection(connection, destination.connection_id).rate_max is not None
    return Order(transfer, destination, effective_rate(connection, destination), shared)


def active_orders(connection: sqlite3.Connection) -> list[Order]:
    """All that the sender is to work on."""
    return [order_for(connection, transfer) for transfer in transfers.active(connection)]


def rates_of(connection: sqlite3.Connection, connection_id: int) -> list[tuple[Destination, float | None]]:
    rows = [row for row in destinations.get_all(connection) if row.connection_id == connection_id]
    return [(row, effective_rate(connection, row)) for row in rows]


def limited_connection(connection: sqlite3.Connection, destination_id: int) -> int | None:
    """The connection of a destination when it has a limit of its own."""
    row = connection.execute(
        "SELECT c.id FROM destinations d JOIN connections c ON c.id=d.connection_id"
        " WHERE d.id=? AND c.rate_max IS NOT NULL",
        (destination_id,),
    ).fetchone()
    return None if row is None else int(row[0])
