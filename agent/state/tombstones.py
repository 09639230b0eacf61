"""Since when a path is gone from its source that is still to be deleted at the destination."""

from __future__ import annotations

import os
from collections.abc import Iterable

from agent.state.connection import Database

SCHEMA = """
CREATE TABLE tombstones(mapping TEXT NOT NULL, destination TEXT NOT NULL, path BLOB NOT NULL,
  since REAL NOT NULL, PRIMARY KEY(mapping, destination, path)) WITHOUT ROWID;
"""


class Tombstones:
    """Times are Unix seconds."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def since(self, mapping: str, destination: str, path: str) -> float | None:
        row = self._db.row(
            "SELECT since FROM tombstones WHERE mapping=? AND destination=? AND path=?",
            (mapping, destination, os.fsencode(path)),
        )
        return None if row is None else float(row[0])

    def all(self, mapping: str, destination: str) -> dict[str, float]:
        rows = self._db.rows(
            "SELECT path, since FROM tombstones WHERE mapping=? AND destination=?", (mapping, destination)
        )
        return {os.fsdecode(path): float(since) for path, since in rows}

    def set(self, mapping: str, destination: str, paths: Iterable[str], since: float) -> None:
        rows = [(mapping, destination, os.fsencode(path), since) for path in paths]
        with self._db.transaction():
            self._db.execute_many("INSERT OR REPLACE INTO tombstones VALUES(?,?,?,?)", rows)

    def drop(self, mapping: str, destination: str, paths: Iterable[str]) -> None:
        """Paths that came back, or are deleted. Unknown ones are no error."""
        rows = [(mapping, destination, os.fsencode(path)) for path in paths]
        with self._db.transaction():
            self._db.execute_many("DELETE FROM tombstones WHERE mapping=? AND destination=? AND path=?", rows)

    def clear(self, mapping: str, destination: str | None = None) -> None:
        """All of a mapping, or of one of its deliveries."""
        if destination is None:
            self._db.execute("DELETE FROM tombstones WHERE mapping=?", (mapping,))
        else:
            key = (mapping, destination)
            self._db.execute("DELETE FROM tombstones WHERE mapping=? AND destination=?", key)
