"""Ids and user data, common to destinations, connections, manifests and transfers.

All kinds draw from one sequence, and no id is ever used again: an id alone says what it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from agent.server.errors import CommandError, not_found
from agent.server.store.scope import EVERYTHING, Scope

MAX_KEYS = 256


def new_id(connection: sqlite3.Connection, kind: str) -> int:
    cursor = connection.execute("INSERT INTO objects(kind) VALUES (?)", (kind,))
    return int(cursor.lastrowid or 0)


def require_kind(
    connection: sqlite3.Connection, object_id: int, kind: str, scope: Scope = EVERYTHING
) -> None:
    """CommandError when `object_id` is gone, never was, or is of another kind. Who does not see everything
    is not told which."""
    row = connection.execute("SELECT kind FROM objects WHERE id=?", (object_id,)).fetchone()
    if row is None or scope != EVERYTHING:
        raise not_found(kind, object_id)
    if row[0] != kind:
        raise CommandError(f"{object_id} is the id of a {row[0]}, not of a {kind}", not_found(kind, 0).code)


def forget(connection: sqlite3.Connection, object_id: int) -> None:
    connection.execute("DELETE FROM user_data WHERE object_id=?", (object_id,))
    connection.execute("DELETE FROM objects WHERE id=?", (object_id,))


def set_user_data(connection: sqlite3.Connection, object_id: int, data: dict[str, str]) -> None:
    """Add or change keys. CommandError when the object is unknown or would hold too many keys."""
    if not data:
        return
    _require_any(connection, object_id)
    connection.executemany(
        "INSERT INTO user_data VALUES (?,?,?) ON CONFLICT DO UPDATE SET value=excluded.value",
        [(object_id, key, value) for key, value in data.items()],
    )
    (keys,) = connection.execute("SELECT count(*) FROM user_data WHERE object_id=?", (object_id,)).fetchone()
    if keys > MAX_KEYS:
        raise CommandError(f"{object_id} would hold more than {MAX_KEYS} keys of user data; delete some")


def delete_user_data(connection: sqlite3.Connection, object_id: int, key: str) -> None:
    _require_any(connection, object_id)
    cursor = connection.execute("DELETE FROM user_data WHERE object_id=? AND key=?", (object_id, key))
    if cursor.rowcount == 0:
        raise CommandError(f"{object_id} has no user data {key!r}")


def kind_of(connection: sqlite3.Connection, object_id: int) -> str | None:
    row = connection.execute("SELECT kind FROM objects WHERE id=?", (object_id,)).fetchone()
    return None if row is None else str(row[0])


def user_data(connection: sqlite3.Connection, object_ids: Iterable[int]) -> dict[int, dict[str, str]]:
    """User data of many objects in one pass."""
    found: dict[int, dict[str, str]] = {object_id: {} for object_id in object_ids}
    ids = list(found)
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        marks = ",".join("?" * len(part))
        query = f"SELECT object_id, key, value FROM user_data WHERE object_id IN ({marks})"  # noqa: S608
        for object_id, key, value in connection.execute(query, part):
            found[object_id][key] = value
    return found


def _require_any(connection: sqlite3.Connection, object_id: int) -> None:
    kind = kind_of(connection, object_id)
    if kind is None or kind == "connection":
        raise not_found("destination, manifest, transfer or token", object_id)
