"""Calls of hooks that are to be made: written down with what they are about, forgotten when they succeeded.

What is delivered is gathered in one row per mapping and destination until the row is sealed; while a sealed
one waits, the next is gathered on, so that a hook that fails never has more than two rows of a kind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.state.connection import Database, Row

SCHEMA = """
CREATE TABLE IF NOT EXISTS hook_calls(number INTEGER PRIMARY KEY AUTOINCREMENT, mapping TEXT NOT NULL,
  destination TEXT NOT NULL, event TEXT NOT NULL, revision TEXT NOT NULL, since REAL NOT NULL,
  files INTEGER NOT NULL, bytes INTEGER NOT NULL, content TEXT NOT NULL, sealed INTEGER NOT NULL,
  tries INTEGER NOT NULL, next_at REAL NOT NULL, last_error TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS hook_calls_of ON hook_calls(mapping, sealed, number);
"""

STALLED = """
CREATE TABLE hook_stalled(mapping TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
"""
"""Of which reason a mapping's hook was last told, until the mapping moves again."""

Event = Literal["delivered", "stalled"]

MAX_PATHS = 1000
"""So many paths of a call are named; the rest is counted."""

_COLUMNS = (
    "number, mapping, destination, event, revision, since, files, bytes, content, tries, next_at, last_error"
)
_HEADS = "number IN (SELECT min(number) FROM hook_calls WHERE sealed=1 GROUP BY mapping)"


@dataclass(frozen=True, slots=True)
class Call:
    number: int
    mapping: str
    destination: str  # empty: about the mapping as a whole
    event: Event
    revision: str
    since: float  # Unix seconds of the first thing that it is about
    files: int
    bytes: int
    content: dict[str, Any]  # of "delivered": paths, complete; of "stalled": reason, message
    tries: int
    next_at: float
    last_error: str


class Hooks:
    def __init__(self, db: Database) -> None:
        self._db = db

    def gather(
        self, mapping: str, destination: str, revision: str, files: Sequence[tuple[str, int]], now: float
    ) -> None:
        """Add delivered (path, size). Part of the transaction that records them."""
        row = self._db.row(
            "SELECT number, content FROM hook_calls"
            " WHERE mapping=? AND destination=? AND event='delivered' AND sealed=0",
            (mapping, destination),
        )
        number, paths = (0, []) if row is None else (row[0], json.loads(row[1])["paths"])
        content = _text({"paths": paths + [path for path, _ in files[: max(0, MAX_PATHS - len(paths))]]})
        total = sum(size for _, size in files)
        if row is None:
            self._insert(
                mapping, destination, "delivered", revision, now, len(files), total, content, sealed=False
            )
        else:
            self._db.execute(
                "UPDATE hook_calls SET files=files+?, bytes=bytes+?, content=?, revision=? WHERE number=?",
                (len(files), total, content, revision, number),
            )

    def seal(self, mapping: str, destination: str, complete: bool, now: float, latest: float) -> bool:
        """What was gathered becomes a call when it is `complete`, or older than `latest` seconds. Not while
        an earlier call waits. True when there is a new call."""
        row = self._db.row(
            "SELECT number, content FROM hook_calls WHERE mapping=? AND destination=? AND event='delivered'"
            " AND sealed=0 AND (? OR since<=?) AND NOT EXISTS (SELECT 1 FROM hook_calls AS other"
            " WHERE other.mapping=hook_calls.mapping AND other.destination=hook_calls.destination"
            " AND other.event='delivered' AND other.sealed=1)",
            (mapping, destination, complete, now - latest),
        )
        if row is None:
            return False
        content = _text({**json.loads(row[1]), "complete": complete})
        self._db.execute("UPDATE hook_calls SET sealed=1, content=? WHERE number=?", (content, row[0]))
        return True

    def stalled(self, mapping: str, revision: str, reason: str, message: str, now: float) -> bool:
        """A call about this, unless the last one was about the same; one that waits untried is replaced."""
        with self._db.transaction():
            told = self._db.row("SELECT reason FROM hook_stalled WHERE mapping=?", (mapping,))
            if told is not None and told[0] == reason:
                return False
            self._db.execute("INSERT OR REPLACE INTO hook_stalled VALUES(?,?)", (mapping, reason))
            self._db.execute(
                "DELETE FROM hook_calls WHERE mapping=? AND event='stalled' AND tries=0", (mapping,)
            )
            content = _text({"reason": reason, "message": message})
            self._insert(mapping, "", "stalled", revision, now, 0, 0, content, sealed=True)
        return True

    def moves(self, mapping: str) -> None:
        """It is not stalled any more: the next time is told."""
        if self._db.row("SELECT 1 FROM hook_stalled WHERE mapping=?", (mapping,)) is not None:
            self._db.execute("DELETE FROM hook_stalled WHERE mapping=?", (mapping,))

    def heads(self) -> tuple[Call, ...]:
        """The oldest call of each mapping: the others wait for it."""
        rows = self._db.rows(f"SELECT {_COLUMNS} FROM hook_calls WHERE {_HEADS} ORDER BY next_at")  # noqa: S608
        return tuple(_call(row) for row in rows)

    def failing(self, mapping: str) -> Call | None:
        """The call that has failed and will be tried again."""
        row = self._db.row(
            f"SELECT {_COLUMNS} FROM hook_calls WHERE mapping=? AND sealed=1 AND tries>0"  # noqa: S608
            " ORDER BY number",
            (mapping,),
        )
        return None if row is None else _call(row)

    def done(self, number: int) -> None:
        self._db.execute("DELETE FROM hook_calls WHERE number=?", (number,))

    def failed(self, number: int, error: str, next_at: float) -> None:
        self._db.execute(
            "UPDATE hook_calls SET tries=tries+1, last_error=?, next_at=? WHERE number=?",
            (error, next_at, number),
        )

    def drop(self, mapping: str) -> None:
        """The mapping is gone."""
        self._db.execute("DELETE FROM hook_calls WHERE mapping=?", (mapping,))
        self._db.execute("DELETE FROM hook_stalled WHERE mapping=?", (mapping,))

    def _insert(
        self,
        mapping: str,
        destination: str,
        event: Event,
        revision: str,
        since: float,
        files: int,
        total: int,
        content: str,
        *,
        sealed: bool,
    ) -> None:
        self._db.execute(
            "INSERT INTO hook_calls(mapping, destination, event, revision, since, files, bytes, content,"
            " sealed, tries, next_at, last_error) VALUES(?,?,?,?,?,?,?,?,?,0,0,'')",
            (mapping, destination, event, revision, since, files, total, content, sealed),
        )


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=True)


def _call(row: Row) -> Call:
    number, mapping, destination, event, revision, since, files, size, content, tries, next_at, error = row
    return Call(
        number,
        mapping,
        destination,
        event,
        revision,
        since,
        files,
        size,
        json.loads(content),
        tries,
        next_at,
        error,
    )
