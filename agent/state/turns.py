"""When each delivery of a mapping with a schedule was last looked at whole, with which version of it."""

from __future__ import annotations

from typing import NamedTuple

from agent.state.connection import Database

SCHEMA = """
CREATE TABLE turns(mapping TEXT NOT NULL, destination TEXT NOT NULL, at REAL NOT NULL,
  spec_digest TEXT NOT NULL, PRIMARY KEY(mapping, destination)) WITHOUT ROWID;
"""


class Turn(NamedTuple):
    at: float  # Unix seconds
    spec_digest: str


class Turns:
    def __init__(self, db: Database) -> None:
        self._db = db

    def last(self, mapping: str, destination: str) -> Turn | None:
        row = self._db.row(
            "SELECT at, spec_digest FROM turns WHERE mapping=? AND destination=?", (mapping, destination)
        )
        return None if row is None else Turn(float(row[0]), str(row[1]))

    def record(self, mapping: str, destination: str, turn: Turn) -> None:
        self._db.execute("INSERT OR REPLACE INTO turns VALUES(?,?,?,?)", (mapping, destination, *turn))

    def drop(self, mapping: str) -> None:
        self._db.execute("DELETE FROM turns WHERE mapping=?", (mapping,))
