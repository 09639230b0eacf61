"""Transfers, and what became of their files."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, field, fields, replace

from agent.server import states
from agent.server.counters import Counters
from agent.server.errors import not_found
from agent.server.store import objects
from agent.server.store.scope import EVERYTHING, Scope


@dataclass(frozen=True, slots=True)
class Transfer:
    """`*_us` are microseconds since 1970 (`request_clock_us`: of the monotonic clock, at the request)."""

    id: int
    uid: str  # 32 hex digits; the receiver knows the transfer by it, over restarts of either side
    destination_id: int
    manifest_id: int
    status: str
    owner: str
    destination_path: str
    lane: str
    priority: int
    rate_max: float | None
    flags: int
    overwrite: int
    checkpoint_seconds: int  # 0 = only before it is complete
    time_resolution_us: int
    timeout_seconds: float  # 0 = waits for ever
    total_files: int
    total_size: int
    request_us: int
    request_clock_us: int
    queue_us: int | None = None
    start_us: int | None = None
    end_us: int | None = None
    error: str = ""
    bytes_sent: int = 0
    bytes_done: int = 0
    files_done: int = 0
    user_name: str | None = None  # what the receiver is shown; secrets are sealed, and go when it is over
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    min_cipher: int = 0
    transfer_log: bool = False
    owner_token: str | None = None
    owner_session: str | None = None
    packets_sent: int = 0
    packets_recv: int = 0
    bytes_recv: int = 0
    blocks_resent: int = 0
    bytes_matched: int = 0

    @property
    def active(self) -> bool:
        return self.status in states.ACTIVE

    @property
    def counters(self) -> Counters:
        """As last stored."""
        return Counters(*(getattr(self, name) for name in _COUNTERS))


_FIELDS = tuple(Transfer.__dataclass_fields__)
_COLUMNS = ", ".join(_FIELDS)
_SELECT = f"SELECT {_COLUMNS} FROM transfers"  # noqa: S608
_ACTIVE = "status IN ('pending', 'sending', 'resuming')"
_PATH = _FIELDS.index("destination_path")
_LOG = _FIELDS.index("transfer_log")
_COUNTERS = tuple(field.name for field in fields(Counters))
_COUNTED = ", ".join(f"{name}=?" for name in _COUNTERS)


def _transfer(row: tuple[object, ...]) -> Transfer:
    values = list(row)
    values[_PATH] = os.fsdecode(row[_PATH])  # type: ignore[arg-type]
    values[_LOG] = bool(row[_LOG])
    return Transfer(*values)  # type: ignore[arg-type]


def create(connection: sqlite3.Connection, transfer: Transfer) -> Transfer:
    """Store it under a new id (the argument's is ignored)."""
    made = replace(transfer, id=objects.new_id(connection, "transfer"))
    values = [getattr(made, field) for field in _FIELDS]
    values[_PATH] = os.fsencode(made.destination_path)
    marks = ",".join("?" * len(values))
    connection.execute(f"INSERT INTO transfers({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608
    return made


def get(connection: sqlite3.Connection, transfer_id: int, scope: Scope = EVERYTHING) -> Transfer:
    """CommandError when there is no such transfer in the scope."""
    found = find(connection, transfer_id)
    if found is None or not scope.sees(found):
        objects.require_kind(connection, transfer_id, "transfer", scope)
        raise not_found("transfer", transfer_id)
    return found


def find(connection: sqlite3.Connection, transfer_id: int) -> Transfer | None:
    row = connection.execute(f"{_SELECT} WHERE id=?", (transfer_id,)).fetchone()
    return None if row is None else _transfer(row)


def get_all(
    connection: sqlite3.Connection,
    destination_id: int | None = None,
    before: int | None = None,
    after: int | None = None,
    limit: int | None = None,
    scope: Scope = EVERYTHING,
) -> list[Transfer]:
    """In order of creation, between the exclusive cursors."""
    seen, owner = scope.condition()
    where = f"id < ? AND id > ? AND {seen}"
    values: list[object] = [2**63 - 1 if before is None else before, -1 if after is None else after, *owner]
    if destination_id is not None:
        where += " AND destination_id=?"
        values.append(destination_id)
    rows = connection.execute(f"{_SELECT} WHERE {where} ORDER BY id LIMIT ?", (*values, limit or -1))
    return [_transfer(row) for row in rows]


def active(connection: sqlite3.Connection) -> list[Transfer]:
    return [_transfer(row) for row in connection.execute(f"{_SELECT} WHERE {_ACTIVE} ORDER BY id")]


def active_counts(connection: sqlite3.Connection) -> dict[int, int]:
    """Active transfers per destination; destinations without any are absent."""
    rows = connection.execute(
        f"SELECT destination_id, count(*) FROM transfers WHERE {_ACTIVE} GROUP BY 1"  # noqa: S608
    )
    return dict(rows.fetchall())


def active_lanes(connection: sqlite3.Connection, destination_id: int) -> set[str]:
    """Lanes of a destination that have a transfer in progress (a suspended one keeps its place)."""
    rows = connection.execute(
        f"SELECT DISTINCT lane FROM transfers WHERE destination_id=? AND ({_ACTIVE} OR status='suspended')",  # noqa: S608
        (destination_id,),
    )
    return {str(lane) for (lane,) in rows}


def save(connection: sqlite3.Connection, transfer: Transfer) -> None:
    """Store what may change in a transfer's life, counters excepted. With its end its secrets go."""
    over = transfer.status in (states.COMPLETE, states.ERROR)
    secrets = ", password=NULL, token=NULL" if over else ""
    connection.execute(
        "UPDATE transfers SET status=?, lane=?, priority=?, rate_max=?, queue_us=?, start_us=?, end_us=?,"  # noqa: S608
        f" error=?{secrets} WHERE id=?",
        (
            transfer.status,
            transfer.lane,
            transfer.priority,
            transfer.rate_max,
            transfer.queue_us,
            transfer.start_us,
            transfer.end_us,
            transfer.error,
            transfer.id,
        ),
    )


def add_results(
    connection: sqlite3.Connection,
    transfer_id: int,
    data: bytes,
    errors: list[tuple[int, str]],
    counters: Counters | None,
) -> None:
    """Append one batch of packed records, the texts of failures, and the counters that go with them."""
    if data:
        connection.execute(
            "INSERT INTO transfer_results SELECT id, next_batch, ? FROM transfers WHERE id=?",
            (data, transfer_id),
        )
        connection.execute("UPDATE transfers SET next_batch=next_batch+1 WHERE id=?", (transfer_id,))
    connection.executemany(
        "INSERT OR REPLACE INTO transfer_errors VALUES (?,?,?)",
        [(transfer_id, seq, message) for seq, message in errors],
    )
    if counters is not None:
        connection.execute(
            f"UPDATE transfers SET {_COUNTED} WHERE id=?",  # noqa: S608
            (*counters.row(), transfer_id),
        )


def batches(
    connection: sqlite3.Connection, transfer_id: int, first: int, limit: int
) -> list[tuple[int, bytes]]:
    """(batch, packed records) from batch `first` on."""
    query = "SELECT batch, data FROM transfer_results WHERE transfer_id=? AND batch>=? ORDER BY batch LIMIT ?"
    return connection.execute(query, (transfer_id, first, limit)).fetchall()


def errors(connection: sqlite3.Connection, transfer_id: int, seqs: list[int]) -> dict[int, str]:
    """Texts of the failures among `seqs`."""
    found: dict[int, str] = {}
    query = "SELECT message FROM transfer_errors WHERE transfer_id=? AND seq=?"
    for seq in seqs:
        row = connection.execute(query, (transfer_id, seq)).fetchone()
        if row is not None:
            found[seq] = str(row[0])
    return found


def delete(connection: sqlite3.Connection, transfer_id: int) -> None:
    connection.execute("DELETE FROM transfers WHERE id=?", (transfer_id,))
    connection.execute("DELETE FROM transfer_results WHERE transfer_id=?", (transfer_id,))
    connection.execute("DELETE FROM transfer_errors WHERE transfer_id=?", (transfer_id,))
    objects.forget(connection, transfer_id)


def rebase_clock(connection: sqlite3.Connection, now_us: int, clock_us: int) -> None:
    """After a boot the monotonic clock starts anew: keep each request's age, by the wall clock this once."""
    connection.execute(
        "UPDATE transfers SET request_clock_us = ? - max(0, ? - request_us)", (clock_us, now_us)
    )


def restart(connection: sqlite3.Connection) -> None:
    """What was being sent when the server ended goes on by itself."""
    connection.execute("UPDATE transfers SET status='resuming' WHERE status='sending'")
