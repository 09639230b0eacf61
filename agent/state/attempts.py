"""Attempts: each try to deliver or delete a change set, written down before a server is asked.

An attempt's number is its identity on the server (in the tag) and is never used twice, not even when a
power cut loses the newest rows: numbers are reserved in blocks, and each reservation reaches the disk first.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from agent.model.change import FileStat
from agent.state.audit import attempt_ended
from agent.state.connection import Database
from agent.state.paths import STAT_COLUMNS, below, join, split, stat_row, to_stat
from agent.state.uncertain import attempt_uncertain

SCHEMA = """
CREATE TABLE attempts(number INTEGER PRIMARY KEY, mapping TEXT NOT NULL, destination TEXT NOT NULL,
  operation TEXT NOT NULL, change_digest TEXT NOT NULL, revision TEXT NOT NULL, created_at REAL NOT NULL,
  transfer_id TEXT, manifest_id TEXT, cursor INTEGER NOT NULL DEFAULT 0,
  files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE in_flight(mapping TEXT NOT NULL, destination TEXT NOT NULL, parent BLOB NOT NULL,
  name BLOB NOT NULL, attempt INTEGER NOT NULL, source BLOB NOT NULL, kind INTEGER, size INTEGER,
  mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, executable INTEGER,
  PRIMARY KEY(mapping, destination, parent, name, attempt)) WITHOUT ROWID;
CREATE INDEX in_flight_attempt ON in_flight(attempt);
CREATE TABLE attempt_history(number INTEGER PRIMARY KEY, mapping TEXT NOT NULL, destination TEXT NOT NULL,
  operation TEXT NOT NULL, revision TEXT NOT NULL, created_at REAL NOT NULL, finished_at REAL NOT NULL,
  transfer_id TEXT, files INTEGER NOT NULL, bytes INTEGER NOT NULL, outcome TEXT NOT NULL,
  error TEXT NOT NULL);
CREATE TABLE failures(mapping TEXT NOT NULL, destination TEXT NOT NULL, revision TEXT NOT NULL,
  consecutive INTEGER NOT NULL, next_retry_at REAL NOT NULL, last_error TEXT NOT NULL,
  PRIMARY KEY(mapping, destination)) WITHOUT ROWID;
"""

BY_TRANSFER = """
CREATE INDEX attempts_by_transfer ON attempts(transfer_id);
CREATE INDEX attempts_by_delivery ON attempts(mapping, destination);
"""

Operation = Literal["transfer", "delete", "rename", "trash"]
"""`trash` is a renaming, too: out of the way instead of to where it belongs now."""

_BLOCK = 1000
_HISTORY_ROWS = 10_000
_COLUMNS = (
    "number, mapping, destination, operation, change_digest, revision, created_at,"
    " transfer_id, manifest_id, cursor, files, bytes"
)
_PAST_COLUMNS = (
    "number, mapping, destination, operation, revision, created_at, finished_at,"
    " transfer_id, files, bytes, outcome, error"
)


@dataclass(frozen=True, slots=True)
class Attempt:
    number: int
    mapping: str
    destination: str
    operation: Operation
    change_digest: str
    revision: str
    created_at: float
    transfer_id: str | None  # None = not known to have been created; of "transfer" or of what it is instead
    manifest_id: str | None
    cursor: int  # where to go on reading the server's results
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PastAttempt:
    number: int
    mapping: str
    destination: str
    operation: Operation
    revision: str
    created_at: float
    finished_at: float
    transfer_id: str | None
    files: int
    bytes: int
    outcome: str
    error: str


class Load(NamedTuple):
    """Files of one delivery that are in flight; `oldest` is when the oldest open attempt began, in Unix
    seconds."""

    mapping: str
    destination: str
    files: int
    bytes: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Failures:
    """How often a delivery has failed in a row under one revision."""

    consecutive: int = 0
    next_retry_at: float = 0.0
    last_error: str = ""


InFlight = tuple[FileStat | None, int]  # what was planned to be sent (None = a deletion), attempt
Planned = tuple[FileStat | None, str]  # what was planned to be sent, source path


class Attempts:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._next = self._end = 0
        self._ended: Counter[tuple[str, str]] = Counter()

    # -- life of an attempt

    def open(
        self,
        mapping: str,
        destination: str,
        operation: Operation,
        change_digest: str,
        revision: str,
        paths: Iterable[tuple[str, str, FileStat | None]],
        now: float,
    ) -> Attempt:
        """Write down (destination path, source, version) of all that will be tried. Then ask the server."""
        if self._next >= self._end:
            self._reserve()
        with self._db.transaction():
            number = self._take_number()
            files = total = 0
            rows = []
            for path, source, stat in paths:
                values = (None,) * 6 if stat is None else stat_row(stat)
                rows.append((mapping, destination, *split(path), number, os.fsencode(source), *values))
                files += stat is not None or operation != "rename"  # not both paths of one file
                total += 0 if stat is None or operation != "transfer" else stat.size
            self._db.execute_many("INSERT OR REPLACE INTO in_flight VALUES(?,?,?,?,?,?,?,?,?,?,?,?)", rows)
            self._db.execute(
                f"INSERT INTO attempts({_COLUMNS}) VALUES(?,?,?,?,?,?,?,NULL,NULL,0,?,?)",
                (number, mapping, destination, operation, change_digest, revision, now, files, total),
            )
        return Attempt(
            number, mapping, destination, operation, change_digest, revision, now, None, None, 0, files, total
        )

    def created(self, number: int, transfer_id: str, manifest_id: str) -> None:
        """The server has it under these ids."""
        self._db.execute(
            "UPDATE attempts SET transfer_id=?, manifest_id=? WHERE number=?",
            (transfer_id, manifest_id, number),
        )

    def settle(self, number: int, results: Iterable[tuple[str, bool]], cursor: int) -> dict[str, Planned]:
        """These paths are final (path, delivered) and no longer in flight. Returns what was planned for the
        delivered ones; paths which the attempt does not carry (any more) are ignored."""
        delivered: dict[str, Planned] = {}
        with self._db.transaction():
            row = self._db.row("SELECT mapping, destination FROM attempts WHERE number=?", (number,))
            if row is None:
                return {}
            done = []
            for path, was_delivered in results:
                key = (*row, *split(path), number)
                done.append(key)
                if was_delivered:
                    planned = self._db.row(f"SELECT source, {STAT_COLUMNS} FROM in_flight {_KEY}", key)  # noqa: S608
                    if planned is not None:
                        delivered[path] = (_optional_stat(planned[1:]), os.fsdecode(planned[0]))
            self._db.execute_many(f"DELETE FROM in_flight {_KEY}", done)  # noqa: S608
            self._db.execute("UPDATE attempts SET cursor=max(cursor, ?) WHERE number=?", (cursor, number))
        return delivered

    def finish(self, number: int, outcome: str, error: str, now: float) -> None:
        """Close an attempt: nothing of it is in flight any more. What a transfer did not tell of is uncertain
        from now on. Unknown numbers are no error."""
        with self._db.transaction():
            row = self._db.row("SELECT operation FROM attempts WHERE number=?", (number,))
            if row is None:
                return
            self._ended[str(row[0]), outcome] += 1
            if row[0] == "transfer" and outcome != "refused":
                attempt_uncertain(self._db, number, now)
            attempt_ended(self._db, number, outcome, error, now)
            self._db.execute(
                "INSERT OR REPLACE INTO attempt_history SELECT number, mapping, destination, operation,"
                " revision, created_at, ?, transfer_id, files, bytes, ?, ? FROM attempts WHERE number=?",
                (now, outcome, error, number),
            )
            self._db.execute("DELETE FROM in_flight WHERE attempt=?", (number,))
            self._db.execute("DELETE FROM attempts WHERE number=?", (number,))
            self._db.execute(
                "DELETE FROM attempt_history WHERE number <="
                " (SELECT number FROM attempt_history ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (_HISTORY_ROWS,),
            )

    def hand_over(self, old: str, new: str, destination: str) -> None:
        """What one mapping has on its way is another's from now on, which has nothing there."""
        with self._db.transaction():
            for table in ("attempts", "in_flight", "failures"):
                self._db.execute(
                    f"UPDATE OR REPLACE {table} SET mapping=? WHERE mapping=? AND destination=?",  # noqa: S608
                    (new, old, destination),
                )

    def ended(self) -> dict[tuple[str, str], int]:
        """How many this process has closed, by operation and outcome."""
        return dict(self._ended)

    # -- which attempts there are

    def pending(self) -> tuple[Attempt, ...]:
        """Every open attempt, oldest first."""
        return self._select("")

    def unnamed(self) -> tuple[Attempt, ...]:
        """Open attempts of which no id is known (yet)."""
        return self._select("WHERE transfer_id IS NULL")

    def of(self, mapping: str, destination: str | None = None) -> tuple[Attempt, ...]:
        """The open attempts of a mapping, oldest first."""
        if destination is None:
            return self._select("WHERE mapping=?", mapping)
        return self._select("WHERE mapping=? AND destination=?", mapping, destination)

    def get(self, number: int) -> Attempt | None:
        return next(iter(self._select("WHERE number=?", number)), None)

    def by_transfer(self, transfer_id: str, *, far: bool = False) -> tuple[Attempt, ...]:
        """By the server's id of a transfer, or (`far`) of what is done at the destination beside transfers.
        Ids are unique per server only: where several servers are driven there may be one of each."""
        condition = f"WHERE transfer_id=? AND operation{'!=' if far else '='}'transfer'"
        return self._select(condition, transfer_id)

    def history(self, mapping: str | None = None, limit: int = 100) -> tuple[PastAttempt, ...]:
        """Closed attempts, newest first."""
        condition, values = ("", ()) if mapping is None else ("WHERE mapping=?", (mapping,))
        rows = self._db.rows(
            f"SELECT {_PAST_COLUMNS} FROM attempt_history {condition} ORDER BY number DESC LIMIT ?",  # noqa: S608
            (*values, limit),
        )
        return tuple(PastAttempt(*row) for row in rows)

    # -- which paths are in flight

    def in_flight(
        self, mapping: str, destination: str, paths: Iterable[str] | None = None
    ) -> dict[str, InFlight]:
        """By path, the newest attempt of each. `None` = all of the delivery: for small ones only."""
        found: dict[str, InFlight] = {}
        if paths is None:
            for row in self._flying("", mapping, destination):
                found[join(row[0], row[1])] = (_optional_stat(row[3:]), int(row[2]))
            return found
        for path in paths:
            for row in self._flying("AND parent=? AND name=?", mapping, destination, *split(path)):
                found[path] = (_optional_stat(row[3:]), int(row[2]))
        return found

    def in_flight_directory(self, mapping: str, destination: str, directory: str) -> dict[str, InFlight]:
        """Direct children of one directory that are in flight."""
        rows = self._flying("AND parent=?", mapping, destination, os.fsencode(directory))
        return {join(row[0], row[1]): (_optional_stat(row[3:]), int(row[2])) for row in rows}

    def in_flight_directories(self, mapping: str, destination: str, prefix: str) -> tuple[str, ...]:
        """Directories that paths in flight lie in: `prefix` and those below it."""
        rows = self._db.rows(
            "SELECT DISTINCT parent FROM in_flight WHERE mapping=? AND destination=?"
            " AND (parent=? OR (parent>? AND parent<?))",
            (mapping, destination, os.fsencode(prefix), *below(prefix)),
        )
        return tuple(os.fsdecode(row[0]) for row in rows)

    def in_flight_count(self, mapping: str, destination: str) -> int:
        row = self._db.row(
            "SELECT count(*) FROM in_flight WHERE mapping=? AND destination=?", (mapping, destination)
        )
        return 0 if row is None else int(row[0])

    def load(self) -> tuple[Load, ...]:
        """What is in flight, by delivery; in all at most what the servers have been given."""
        rows = self._db.rows(
            "SELECT mapping, destination, count(*), coalesce(sum(size), 0) FROM in_flight GROUP BY 1, 2"
        )
        oldest = self.oldest()
        return tuple(Load(str(m), str(d), int(n), int(size), oldest.get((m, d))) for m, d, n, size in rows)

    def oldest(self) -> dict[tuple[str, str], float]:
        """When the oldest open attempt began, by mapping and destination."""
        return {(m, d): at for m, d, at in self._db.rows(_OLDEST)}

    def left(self, number: int) -> dict[str, Planned]:
        """What of one attempt is still in flight: planned version and source, by path; at most a manifest."""
        rows = self._db.rows(
            f"SELECT parent, name, source, {STAT_COLUMNS} FROM in_flight WHERE attempt=?",  # noqa: S608
            (number,),
        )
        return {join(row[0], row[1]): (_optional_stat(row[3:]), os.fsdecode(row[2])) for row in rows}

    # -- failures in a row

    def failures(self, mapping: str, destination: str, revision: str) -> Failures:
        """None so far under a new revision."""
        row = self._db.row(
            "SELECT consecutive, next_retry_at, last_error FROM failures"
            " WHERE mapping=? AND destination=? AND revision=?",
            (mapping, destination, revision),
        )
        return Failures() if row is None else Failures(*row)

    def set_failures(self, mapping: str, destination: str, revision: str, failures: Failures) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO failures VALUES(?,?,?,?,?,?)",
            (
                mapping,
                destination,
                revision,
                failures.consecutive,
                failures.next_retry_at,
                failures.last_error,
            ),
        )

    def reset_failures(self, mapping: str, destination: str) -> None:
        self._db.execute("DELETE FROM failures WHERE mapping=? AND destination=?", (mapping, destination))

    # -- rows

    def _select(self, condition: str, *values: Any) -> tuple[Attempt, ...]:
        rows = self._db.rows(f"SELECT {_COLUMNS} FROM attempts {condition} ORDER BY number", values)  # noqa: S608
        return tuple(Attempt(*row) for row in rows)

    def _flying(self, condition: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._db.rows(
            f"SELECT parent, name, attempt, {STAT_COLUMNS} FROM in_flight"  # noqa: S608
            f" WHERE mapping=? AND destination=? {condition} ORDER BY parent, name, attempt",
            values,
        )

    def _take_number(self) -> int:
        if self._next >= self._end:  # another thread took the last one
            self._reserve()
        self._next += 1
        return self._next - 1

    def _reserve(self) -> None:
        with self._db.transaction(durable=True):
            row = self._db.row("SELECT value FROM meta WHERE key='next_attempt'")
            first = 1 if row is None else int(row[0])
            end = str(first + _BLOCK)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES('next_attempt', ?)", (end,))
        self._next, self._end = first, first + _BLOCK


def _optional_stat(row: tuple[Any, ...]) -> FileStat | None:
    return None if row[0] is None else to_stat(row)


_OLDEST = "SELECT mapping, destination, min(created_at) FROM attempts GROUP BY 1, 2"
_KEY = "WHERE mapping=? AND destination=? AND parent=? AND name=? AND attempt=?"
