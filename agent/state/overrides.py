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
        self._all: dict[Key, Override] | None = None  # as committed; None = to be read again

    def set(self, key: Key, reason: str, author: str, now: float, until: float | None = None) -> None:
        with self._db.lock:
            self._db.execute(
                "INSERT OR REPLACE INTO overrides VALUES(?,?,?,?,?)", (str(key), reason, author, now, until)
            )
            self._all = None

    def get(self, key: Key, now: float) -> Override | None:
        """None when there is none, or its time is over."""
        found = self._read().get(key)
        return found if found is not None and _holds(found, now) else None

    def all(self, now: float) -> tuple[Override, ...]:
        found = self._read()
        return tuple(found[key] for key in sorted(found, key=str) if _holds(found[key], now))

    def clear(self, key: Key) -> bool:
        """True when there was one."""
        with self._db.lock:
            gone = self._db.execute("DELETE FROM overrides WHERE key=?", (str(key),)) > 0
            self._all = None
        return gone

    def _read(self) -> dict[Key, Override]:
        """Asked for each object at each look, and hardly ever changed."""
        found = self._all
        if found is not None:
            return found
        with self._db.lock:
            rows = self._db.rows("SELECT key, reason, author, at, until FROM overrides")
            found = {key: Override(key, *row[1:]) for row in rows for key in [Key.parse(row[0])]}
            self._all = None if self._db.in_transaction else found
        return found


def _holds(override: Override, now: float) -> bool:
    return override.until is None or override.until > now
