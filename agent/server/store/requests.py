"""Records of `…Async` requests: what was asked, how it ended, what it returned."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from agent.jetstream.constants import ERROR_NOT_FOUND
from agent.server.errors import CommandError
from agent.server.store.scope import Owner

PENDING, COMPLETE, ERROR = "pending", "complete", "error"


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    method: str
    owner: str
    owner_token: str | None
    status: str
    error: dict[str, Any] | None  # the JSON-RPC error object
    result: Any

    @property
    def processing(self) -> bool:
        return self.status == PENDING


def create(connection: sqlite3.Connection, method: str, owner: Owner, now_us: int) -> int:
    cursor = connection.execute(
        "INSERT INTO requests(method, owner, owner_token, status, created_us) VALUES (?,?,?,?,?)",
        (method, owner.name, owner.token, PENDING, now_us),
    )
    return int(cursor.lastrowid or 0)


def finish(
    connection: sqlite3.Connection, request_id: int, result: object, error: dict[str, Any] | None, now_us: int
) -> None:
    connection.execute(
        "UPDATE requests SET status=?, error=?, result=?, ended_us=? WHERE id=?",
        (
            COMPLETE if error is None else ERROR,
            None if error is None else json.dumps(error),
            json.dumps(result),
            now_us,
            request_id,
        ),
    )


def get(connection: sqlite3.Connection, request_id: int) -> Request:
    """CommandError when it is unknown or its record has expired."""
    row = connection.execute(
        "SELECT id, method, owner, owner_token, status, error, result FROM requests WHERE id=?", (request_id,)
    ).fetchone()
    if row is None:
        raise missing(request_id)
    *fields, error, result = row
    return Request(*fields, *(None if text is None else json.loads(text) for text in (error, result)))


def delete(connection: sqlite3.Connection, request_ids: Collection[int]) -> None:
    """Records that nobody can ask for any more."""
    connection.executemany("DELETE FROM requests WHERE id=?", [(each,) for each in request_ids])


def missing(request_id: int) -> CommandError:
    return CommandError(
        f"request {request_id} was not found; records are kept for an hour after the request ended",
        ERROR_NOT_FOUND,
    )


def interrupt(connection: sqlite3.Connection, error: dict[str, Any], now_us: int) -> None:
    """At start: whatever was pending did not finish."""
    connection.execute(
        "UPDATE requests SET status=?, error=?, ended_us=? WHERE status=?",
        (ERROR, json.dumps(error), now_us, PENDING),
    )


def expire(connection: sqlite3.Connection, before_us: int) -> None:
    connection.execute("DELETE FROM requests WHERE ended_us < ?", (before_us,))
