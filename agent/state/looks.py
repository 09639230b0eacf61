"""What the last looks at a destination found, and whether what was there at first has been taken over.

One row for each delivery and kind of look: "drift" (names, sizes, times) and "verify" (contents, as asked by
a person or by `verify.interval`). They go with the ledger of the delivery.
"""

from __future__ import annotations

import json
from typing import Any

from agent.state.connection import Database

SCHEMA = """
DROP TRIGGER ledger_changed;
CREATE TRIGGER ledger_changed AFTER UPDATE OF kind, size, mtime_ns, ctime_ns, inode, executable ON ledger
BEGIN
  UPDATE directories SET bytes = bytes - old.size + new.size, digest = NULL WHERE id = new.directory;
END;
ALTER TABLE ledger ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN adopted_at REAL;
CREATE TABLE looks(mapping TEXT NOT NULL, destination TEXT NOT NULL, what TEXT NOT NULL,
  document TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY(mapping, destination, what)) WITHOUT ROWID;
"""

Document = dict[str, Any]


class Looks:
    def __init__(self, db: Database) -> None:
        self._db = db

    def adopted(self, mapping: str, destination: str) -> bool:
        """Whether what was there before the first delivery has been looked at."""
        row = self._db.row(
            "SELECT adopted_at FROM deliveries WHERE mapping=? AND destination=?", (mapping, destination)
        )
        return row is not None and row[0] is not None

    def set_adopted(self, mapping: str, destination: str, now: float) -> None:
        with self._db.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO deliveries(mapping, destination) VALUES(?,?)", (mapping, destination)
            )
            self._db.execute(
                "UPDATE deliveries SET adopted_at=? WHERE mapping=? AND destination=?",
                (now, mapping, destination),
            )

    def put(self, mapping: str, destination: str, what: str, document: Document, now: float) -> None:
        text = json.dumps(document, ensure_ascii=True)
        self._db.execute(
            "INSERT OR REPLACE INTO looks VALUES(?,?,?,?,?)", (mapping, destination, what, text, now)
        )

    def get(self, mapping: str, destination: str, what: str) -> Document | None:
        row = self._db.row(
            "SELECT document FROM looks WHERE mapping=? AND destination=? AND what=?",
            (mapping, destination, what),
        )
        if row is None:
            return None
        document: Document = json.loads(row[0])
        return document

    def drop(self, mapping: str, destination: str, what: str) -> None:
        self._db.execute(
            "DELETE FROM looks WHERE mapping=? AND destination=? AND what=?", (mapping, destination, what)
        )
