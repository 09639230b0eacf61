"""What the sender is to do, read from the store: transfers with their destinations and connections."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from agent.server.store import destinations, transfers
from agent.server.store.destinations import Connection, Destination
from agent.server.store.transfers import Transfer


@dataclass(frozen=True, slots=True)
class Order:
    """A transfer that the sender is to work on, with all that it needs."""

    transfer: Transfer
    destination: Destination
    connection: Connection


def connection_of(connection: sqlite3.Connection, destination: Destination) -> Connection:
    return destinations.get_connection(connection, destination.connection_id)


def order_for(connection: sqlite3.Connection, transfer: Transfer) -> Order:
    destination = destinations.get(connection, transfer.destination_id)
    return Order(transfer, destination, connection_of(connection, destination))


def active_orders(connection: sqlite3.Connection) -> list[Order]:
    """All that the sender is to work on."""
    return [order_for(connection, transfer) for transfer in transfers.active(connection)]


def sharing(connection: sqlite3.Connection, connection_id: int) -> list[tuple[Destination, Connection]]:
    """The destinations of a connection."""
    shared = destinations.get_connection(connection, connection_id)
    rows = destinations.get_all(connection)
    return [(row, shared) for row in rows if row.connection_id == connection_id]
