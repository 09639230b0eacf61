"""Local overrides: an object suspended by a person on this machine, beside what its spec says."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.spec import Key
from agent.state.connection import Database

SCHEMA = """
CREATE TABLE overrides(key TEXT PRIMARY KEY, reason TEXT NOT NULL, author TEXT NOT NULL, at REAL NOT NULL,
  until REAL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Override:
    key: Key
    reason: str
    author: str
    at: float
    until: float | None  # Unix seconds; None = until cleared


class Overrides:
    def __init__(self, db: Database) -> None:
        self._db = db

    def set(self, key: Key, reason: str, author: str, now: float, until: float | None = None) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO overrides VALUES(?,?,?,?,?)", (str(key), reason, author, now, until)
        )

    def get(self, key: Key, now: float) -> Override | None:
        """None when there is none, or its time is over."""
        row = self._db.row(
            "SELECT key, reason, author, at, until FROM overrides WHERE key=? AND (until IS NULL OR until>?)",
            (str(key), now),
        )
        return None if row is None else Override(Key.parse(row[0]), *row[1:])

    def all(self, now: float) -> tuple[Override, ...]:
        rows = self._db.rows(
            "SELECT key, reason, author, at, until FROM overrides"
            " WHERE until IS NULL OR until>? ORDER BY key",
            (now,),
        )
        return tuple(Override(Key.parse(row[0]), *row[1:]) for row in rows)

    def clear(self, key: Key) -> bool:
        """True when there was one."""
        return self._db.execute("DELETE FROM overrides WHERE key=?", (str(key),)) > 0
