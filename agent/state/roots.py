"""Which device and inode each source root had when it was last believed."""

from __future__ import annotations

import os
from typing import NamedTuple

from agent.state.connection import Database

SCHEMA = """
CREATE TABLE roots(mapping TEXT NOT NULL, source BLOB NOT NULL, device TEXT NOT NULL, inode TEXT NOT NULL,
  PRIMARY KEY(mapping, source)) WITHOUT ROWID;
"""


class RootIdentity(NamedTuple):
    device: int
    inode: int


class Roots:
    def __init__(self, db: Database) -> None:
        self._db = db

    def known(self, mapping: str, source: str) -> RootIdentity | None:
        row = self._db.row(
            "SELECT device, inode FROM roots WHERE mapping=? AND source=?", (mapping, os.fsencode(source))
        )
        return None if row is None else RootIdentity(int(row[0]), int(row[1]))

    def remember(self, mapping: str, source: str, device: int, inode: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO roots VALUES(?,?,?,?)",
            (mapping, os.fsencode(source), str(device), str(inode)),
        )

    def forget(self, mapping: str, source: str | None = None) -> None:
        """One root of a mapping, or all."""
        if source is None:
            self._db.execute("DELETE FROM roots WHERE mapping=?", (mapping,))
        else:
            self._db.execute("DELETE FROM roots WHERE mapping=? AND source=?", (mapping, os.fsencode(source)))

    def hand_over(self, old: str, new: str) -> None:
        """A renamed mapping knows its roots."""
        self._db.execute("UPDATE OR REPLACE roots SET mapping=? WHERE mapping=?", (new, old))
