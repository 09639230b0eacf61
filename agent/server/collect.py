"""Garbage collection as documented: hourly, of what is 48 hours old, never of what is used."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from agent.server.store import destinations, manifests, requests, transfers

INTERVAL_SECONDS = 3600.0
AGE_US = 48 * 3600 * 1_000_000
REQUEST_AGE_US = 3600 * 1_000_000
MAX_A_RUN = 10_000


@dataclass(frozen=True, slots=True)
class Collected:
    """Ids of what was removed."""

    transfers: list[int]
    manifests: list[int]
    destinations: list[int]


def collect(connection: sqlite3.Connection, now_us: int) -> Collected:
    """Remove finished transfers 48 h after their end, manifests 48 h after their creation unless a transfer
    uses them, destinations without transfers unless permanent; request records after an hour. Transfers of
    permanent destinations are collected too: what is kept is the destination."""
    limit = now_us - AGE_US
    requests.expire(connection, now_us - REQUEST_AGE_US)
    ended = _ids(
        connection,
        "SELECT id FROM transfers WHERE status IN ('complete', 'error') AND end_us < ? LIMIT ?",
        limit,
    )
    for transfer_id in ended:
        transfers.delete(connection, transfer_id)
    unused = _ids(
        connection,
        "SELECT id FROM manifests WHERE deleted=0 AND status<>'pending' AND created_us < ? AND NOT EXISTS"
        " (SELECT 1 FROM transfers WHERE manifest_id=manifests.id) LIMIT ?",
        limit,
    )
    for manifest_id in unused:
        manifests.delete(connection, manifest_id)
    idle = _ids(
        connection,
        "SELECT id FROM destinations WHERE permanent=0 AND created_us < ? AND NOT EXISTS"
        " (SELECT 1 FROM transfers WHERE destination_id=destinations.id) LIMIT ?",
        limit,
    )
    for destination_id in idle:
        destinations.delete(connection, destinations.get(connection, destination_id))
    return Collected(ended, unused, idle)


def _ids(connection: sqlite3.Connection, query: str, limit_us: int) -> list[int]:
    return [int(found) for (found,) in connection.execute(query, (limit_us, MAX_A_RUN))]
