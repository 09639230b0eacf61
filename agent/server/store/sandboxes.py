"""Sandbox mappings: user (empty = everybody) to named roots."""

from __future__ import annotations

import json
import sqlite3

from agent.server.sandboxes import Mapping

MAX_USERS = 100_000


def get_all(connection: sqlite3.Connection) -> dict[str, Mapping]:
    found: dict[str, Mapping] = {}
    for user, name, sandbox in connection.execute("SELECT user, name, mapping FROM sandboxes"):
        found.setdefault(user, {})[name] = json.loads(sandbox)
    return found


def put(connection: sqlite3.Connection, user: str, mapping: Mapping) -> None:
    """Replace what the user had."""
    delete(connection, user)
    connection.executemany(
        "INSERT INTO sandboxes(user, name, mapping) VALUES (?,?,?)",
        [(user, name, json.dumps(sandbox)) for name, sandbox in mapping.items()],
    )


def delete(connection: sqlite3.Connection, user: str) -> bool:
    """Whether there was one."""
    return connection.execute("DELETE FROM sandboxes WHERE user=?", (user,)).rowcount > 0
