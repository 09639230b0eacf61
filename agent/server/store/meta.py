"""Facts about the server itself that survive restarts."""

from __future__ import annotations

import sqlite3


def get(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
    return None if row is None else str(row[0])


def put(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute(
        "INSERT INTO meta VALUES (?,?) ON CONFLICT DO UPDATE SET value=excluded.value", (key, value)
    )


def get_or_put(connection: sqlite3.Connection, key: str, value: str) -> str:
    """What is stored under `key`; `value` when nothing was."""
    found = get(connection, key)
    if found is None:
        put(connection, key, value)
        return value
    return found
