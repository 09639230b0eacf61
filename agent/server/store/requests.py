"""Records of `…Async` requests: what was asked, how it ended, what it returned."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from agent.jetstream.constants import ERROR_NOT_FOUND
from agent.server.errors import CommandError

PENDING, COMPLETE, ERROR = "pending", "complete", "error"


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    method: str
    owner: str
    status: str
    error: dict[str, Any] | None  # the JSON-RPC error object
    result: Any

    @property
    def processing(self) -> bool:
        return self.status == PENDING


def create(connection: sqlite3.Connection, method: str, owner: str, now_us: int) -> int:
    cursor = connection.execute(
        "INSERT INTO requests(method, owner, status, created_us) VALUES (?,?,?,?)",
        (method, owner, PENDING, now_us),
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
        "SELECT id, method, owner, status, error, result FROM requests WHERE id=?", (request_id,)
    ).fetchone()
    if row is None:
        raise CommandError(
            f"request {request_id} was not found; records are kept for an hour after the request ended",
            ERROR_NOT_FOUND,
        )
    error = None if row[4] is None else json.loads(row[4])
    result = None if row[5] is None else json.loads(row[5])
    return Request(row[0], row[1], row[2], row[3], error, result)


def interrupt(connection: sqlite3.Connection, error: dict[str, Any], now_us: int) -> None:
    """At start: whatever was pending did not finish."""
    connection.execute(
        "UPDATE requests SET status=?, error=?, ended_us=? WHERE status=?",
        (ERROR, json.dumps(error), now_us, PENDING),
    )


def expire(connection: sqlite3.Connection, before_us: int) -> None:
    connection.execute("DELETE FROM requests WHERE ended_us < ?", (before_us,))
