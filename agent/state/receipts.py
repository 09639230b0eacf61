"""Receipts: the generations of each history, and which files they list with which digests.

Both are kept when the mapping goes: what it wrote at the destination stays there, and should it come back,
its histories go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from agent.model.change import FileKind, FileStat
from agent.model.known import Origin
from agent.planning.receipts import Delivered, Generation
from agent.state.connection import Database
from agent.state.paths import below, join, stat_row

SCHEMA = """
CREATE TABLE receipts(mapping TEXT NOT NULL, destination TEXT NOT NULL, root BLOB NOT NULL,
  number INTEGER NOT NULL, name TEXT NOT NULL, c4 TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY(mapping, destination, root, number)) WITHOUT ROWID;
CREATE TABLE receipt_files(mapping TEXT NOT NULL, destination TEXT NOT NULL, parent BLOB NOT NULL,
  name BLOB NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY(mapping, destination, parent, name)) WITHOUT ROWID;
"""

_PAGE = 1000
_FILE = stat_row(FileStat(FileKind.FILE, 0, 0, 0, 0, executable=False))[0]

_FILES = f"""
FROM directories AS d JOIN ledger AS l ON l.directory = d.id
LEFT JOIN receipt_files AS r ON r.mapping=?1 AND r.destination=?2 AND r.parent=d.path AND r.name=l.name
WHERE d.delivery=(SELECT id FROM deliveries WHERE mapping=?1 AND destination=?2)
  AND (d.path=?3 OR (d.path>?4 AND d.path<?5)) AND l.kind={_FILE}
"""  # noqa: S608
_NEW = _FILES + f" AND l.origin<>{int(Origin.KEPT)} AND l.digest<>'' AND r.digest IS NOT l.digest"
_UNLISTED = _FILES + f" AND (l.origin={int(Origin.KEPT)} OR l.digest='')"


class Receipts:
    def __init__(self, db: Database) -> None:
        self._db = db

    def generations(self, mapping: str, destination: str, root: str) -> tuple[Generation, ...]:
        """Oldest first."""
        rows = self._db.rows(
            "SELECT number, name, c4 FROM receipts WHERE mapping=? AND destination=? AND root=?"
            " ORDER BY number",
            (mapping, destination, os.fsencode(root)),
        )
        return tuple(Generation(*row) for row in rows)

    def new(self, mapping: str, destination: str, root: str) -> Iterator[Delivered]:
        """The files below `root` that were delivered and that no generation lists as they are now; in order,
        page by page, with paths relative to `root`."""
        parent, name = b"", b""
        while True:
            rows = self._db.rows(
                "SELECT d.path, l.name, l.size, l.mtime_ns, l.digest, l.delivered_at, coalesce(r.digest, '')"
                f" {_NEW} AND (d.path, l.name) > (?6, ?7) ORDER BY d.path, l.name LIMIT {_PAGE}",
                (*_below(mapping, destination, root), parent, name),
            )
            for row in rows:
                path = join(row[0], row[1])
                yield Delivered(path[len(root.rstrip("/")) + 1 :], *row[2:])
            if len(rows) < _PAGE:
                return
            parent, name = rows[-1][0], rows[-1][1]

    def unlisted(self, mapping: str, destination: str, root: str) -> int:
        """How many files cannot be listed: nobody knows what is in them at the destination."""
        row = self._db.row(f"SELECT count(*) {_UNLISTED}", _below(mapping, destination, root))
        return 0 if row is None else int(row[0])

    def hand_over(self, old: str, new: str, destination: str) -> bool:
        """All histories of one mapping become those of another that has none; False when it has some."""
        with self._db.transaction():
            for table in ("receipts", "receipt_files"):
                where = f"FROM {table} WHERE mapping=? AND destination=?"
                if self._db.row(f"SELECT 1 {where} LIMIT 1", (new, destination)) is not None:
                    return False
            for table in ("receipts", "receipt_files"):
                self._db.execute(
                    f"UPDATE {table} SET mapping=? WHERE mapping=? AND destination=?",  # noqa: S608
                    (new, old, destination),
                )
        return True

    def add(
        self, mapping: str, destination: str, root: str, generation: Generation | None, now: float
    ) -> None:
        """What `new` gives is listed by this generation; without one there is nothing in it to list."""
        with self._db.transaction(durable=True):
            self._db.execute(
                "INSERT OR REPLACE INTO receipt_files(mapping, destination, parent, name, digest)"
                f" SELECT ?1, ?2, d.path, l.name, l.digest {_NEW}",
                _below(mapping, destination, root),
            )
            if generation is not None:
                self._db.execute(
                    "INSERT INTO receipts VALUES(?,?,?,?,?,?,?)",
                    (mapping, destination, os.fsencode(root), *generation, now),
                )


def _below(mapping: str, destination: str, root: str) -> tuple[Any, ...]:
    return mapping, destination, os.fsencode(root), *below(root)
