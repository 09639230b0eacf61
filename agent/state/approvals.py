"""What a person has approved: one held set each, by its digest."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.spec import Key
from agent.state.connection import Database

SCHEMA = """
CREATE TABLE approvals(key TEXT NOT NULL, digest TEXT NOT NULL, who TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY(key, digest)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Approval:
    key: Key
    digest: str
    who: str
    at: float


class Approvals:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, key: Key, digest: str, who: str, now: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO approvals VALUES(?,?,?,?)", (str(key), digest, who, now))

    def approved(self, key: Key) -> frozenset[str]:
        rows = self._db.rows("SELECT digest FROM approvals WHERE key=?", (str(key),))
        return frozenset(str(row[0]) for row in rows)

    def of(self, key: Key) -> tuple[Approval, ...]:
        rows = self._db.rows("SELECT digest, who, at FROM approvals WHERE key=? ORDER BY at", (str(key),))
        return tuple(Approval(key, *row) for row in rows)

    def remove(self, key: Key, digest: str | None = None) -> None:
        """An approval is used up once carried out."""
        if digest is None:
            self._db.execute("DELETE FROM approvals WHERE key=?", (str(key),))
        else:
            self._db.execute("DELETE FROM approvals WHERE key=? AND digest=?", (str(key), digest))
