"""When each delivery of a mapping with a schedule was last looked at whole, and in which version of the spec."""

from __future__ import annotations

from typing import NamedTuple

from agent.state.connection import Database

SCHEMA = """
CREATE TABLE looks(mapping TEXT NOT NULL, destination TEXT NOT NULL, at REAL NOT NULL,
  spec_digest TEXT NOT NULL, PRIMARY KEY(mapping, destination)) WITHOUT ROWID;
"""


class Look(NamedTuple):
    at: float  # Unix seconds
    spec_digest: str


class Looks:
    def __init__(self, db: Database) -> None:
        self._db = db

    def last(self, mapping: str, destination: str) -> Look | None:
        row = self._db.row(
            "SELECT at, spec_digest FROM looks WHERE mapping=? AND destination=?", (mapping, destination)
        )
        return None if row is None else Look(float(row[0]), str(row[1]))

    def record(self, mapping: str, destination: str, look: Look) -> None:
        self._db.execute("INSERT OR REPLACE INTO looks VALUES(?,?,?,?)", (mapping, destination, *look))

    def drop(self, mapping: str) -> None:
        self._db.execute("DELETE FROM looks WHERE mapping=?", (mapping,))
