"""Whose any object is, whatever its kind."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from agent.server.errors import not_found
from agent.server.store import objects
from agent.server.store.scope import Owned, Scope

_TABLES = {
    "destination": "destinations",
    "manifest": "manifests",
    "transfer": "transfers",
    "token": "tokens",
    "deletion": "requests",  # an event under a request's id
}
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    owner: str
    owner_token: str | None


def find(connection: sqlite3.Connection, kind: str, object_id: int) -> Owned | None:
    table = _TABLES.get(kind)
    if table is None:
        return None
    row = connection.execute(
        f"SELECT id, owner, owner_token FROM {table} WHERE id=?",  # noqa: S608
        (object_id,),
    ).fetchone()
    return None if row is None else _Row(*row)


def require(connection: sqlite3.Connection, object_id: int, scope: Scope) -> str:
    """The kind of an object that may be changed in the scope. CommandError when there is none."""
    kind = objects.kind_of(connection, object_id) or ""
    found = find(connection, kind, object_id)
    if found is None or not scope.owns(found):
        raise not_found("destination, manifest, transfer or token", object_id)
    return kind


def visible(connection: sqlite3.Connection, events: dict[Key, Owned | None], scope: Scope) -> set[Key]:
    """Which of the objects are in the scope; the row is given of those that are gone."""
    seen: set[Key] = set()
    for (kind, object_id), gone in events.items():
        row = gone or find(connection, kind, object_id)
        if row is not None and (scope.owns(row) if kind == "deletion" else scope.sees(row)):
            seen.add((kind, object_id))
    return seen
