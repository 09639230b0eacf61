"""Events: what happened to which object, the newest rows kept.

What repeats within a short while is one event with a count: `reason` is the key by which events are the same,
`message` the text of the newest of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.model.spec import Key
from agent.state.connection import Database, Row

SCHEMA = """
CREATE TABLE events(seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, key TEXT NOT NULL,
  type TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, revision TEXT NOT NULL,
  fields TEXT NOT NULL);
CREATE INDEX events_key ON events(key, seq);
"""

RETAINED = 100_000
_SLACK = 1_000  # how many rows too many before the oldest are removed together
AGAIN = 600.0
"""Seconds within which the same reason of the same object is the same event."""

_LOOK_BACK = 50  # events of an object that are looked at for the same one
_COLUMNS = "seq, at, key, type, reason, message, revision, fields"
_NEWEST = "SELECT * FROM events WHERE key=? ORDER BY seq DESC LIMIT ?"


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    at: float
    key: Key | None  # None = about the agent
    type: str  # "Normal" or "Warning"
    reason: str
    message: str
    revision: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return int(self.fields.get("count", 1))

    @property
    def first(self) -> float:
        """When it happened for the first of `count` times."""
        return float(self.fields.get("first", self.at))


class Events:
    def __init__(self, db: Database, retained: int = RETAINED) -> None:
        self._db = db
        self._retained = retained

    def append(
        self,
        now: float,
        key: Key | None,
        type_: str,
        reason: str,
        message: str,
        revision: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> int:
        """Returns the event's number; numbers only grow and are never used twice."""
        text = json.dumps(dict(fields or {}), ensure_ascii=True, default=str)
        name = "" if key is None else str(key)
        with self._db.transaction():
            seq = self._db.insert(
                "INSERT INTO events(at, key, type, reason, message, revision, fields) VALUES(?,?,?,?,?,?,?)",
                (now, name, type_, reason, _ascii(message), revision, text),
            )
            if seq % _SLACK == 0:
                self._db.execute("DELETE FROM events WHERE seq<=?", (seq - self._retained,))
        return seq

    def tell(
        self, now: float, key: Key | None, type_: str, reason: str, message: str, revision: str = ""
    ) -> int:
        """Append, in place of the same event of a short while ago: it gets a new number, and counts."""
        name = "" if key is None else str(key)
        with self._db.transaction():
            before = self._db.row(
                f"SELECT {_COLUMNS} FROM ({_NEWEST}) WHERE type=? AND reason=? AND at>?",  # noqa: S608
                (name, _LOOK_BACK, type_, reason, now - AGAIN),
            )
            fields: dict[str, Any] = {}
            if before is not None:
                same = _event(before)
                fields = {"count": same.count + 1, "first": same.first}
                self._db.execute("DELETE FROM events WHERE seq=?", (same.seq,))
            return self.append(now, key, type_, reason, message, revision, fields)

    def since(self, seq: int, limit: int = 1000, key: Key | None = None) -> tuple[Event, ...]:
        """Events numbered above `seq`, oldest first."""
        condition, values = ("", ()) if key is None else ("AND key=?", (str(key),))
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM events WHERE seq>? {condition} ORDER BY seq LIMIT ?",  # noqa: S608
            (seq, *values, limit),
        )
        return tuple(_event(row) for row in rows)

    def newest(self) -> int:
        """The number of the newest event; 0 when there was none."""
        row = self._db.row("SELECT max(seq) FROM events")
        return 0 if row is None or row[0] is None else int(row[0])

    def last(self, limit: int = 100, key: Key | None = None, since: float = 0.0) -> tuple[Event, ...]:
        """The newest events, oldest of them first; `since`: not those before (Unix seconds)."""
        condition, values = ("WHERE at>=?", (since,))
        if key is not None:
            condition, values = condition + " AND key=?", (*values, str(key))  # type: ignore[assignment]
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM events {condition} ORDER BY seq DESC LIMIT ?",  # noqa: S608
            (*values, limit),
        )
        return tuple(_event(row) for row in reversed(rows))


def _ascii(text: str) -> str:
    """Messages may name paths that are not UTF-8; SQLite text cannot hold those bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _event(row: Row) -> Event:
    seq, at, key, type_, reason, message, revision, fields = row
    return Event(
        seq, at, Key.parse(key) if key else None, type_, reason, message, revision, json.loads(fields)
    )
