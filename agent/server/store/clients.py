"""Senders that this server takes data from, by their public keys."""

from __future__ import annotations

import sqlite3

from agent.server.errors import CommandError
from agent.server.store import meta

MAX_CLIENTS = 10_000
_ONLY = "onlyAuthorizedClients"


def get_all(connection: sqlite3.Connection) -> frozenset[str]:
    return frozenset(str(key) for (key,) in connection.execute("SELECT public_key FROM authorized_clients"))


def add(connection: sqlite3.Connection, public_key: str, now_us: int) -> None:
    """Harmless when it is there. CommandError when there are too many."""
    (count,) = connection.execute("SELECT count(*) FROM authorized_clients").fetchone()
    if count >= MAX_CLIENTS:
        raise CommandError(f"{count} clients are authorized, which is the most; remove some")
    connection.execute(
        "INSERT INTO authorized_clients VALUES (?,?) ON CONFLICT DO NOTHING", (public_key, now_us)
    )


def remove(connection: sqlite3.Connection, public_key: str) -> bool:
    """Whether it was there."""
    cursor = connection.execute("DELETE FROM authorized_clients WHERE public_key=?", (public_key,))
    return cursor.rowcount > 0


def only_authorized(connection: sqlite3.Connection) -> bool:
    return meta.get(connection, _ONLY) == "1"


def set_only_authorized(connection: sqlite3.Connection, value: bool) -> None:
    meta.put(connection, _ONLY, "1" if value else "0")
