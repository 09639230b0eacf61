"""Files that an attempt carried and of which nobody heard how it ended: perhaps they are at the destination.

A receiver may have published a file when it, the sender or the agent died; when the source has it no more,
no later attempt tells. A row holds the version that was carried. Bounded: what is too much is not remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from agent.model.change import FileKind, FileStat
from agent.state.connection import Database
from agent.state.paths import STAT_COLUMNS, join, split, stat_row, to_stat

SCHEMA = """
CREATE TABLE uncertain(mapping TEXT NOT NULL, destination TEXT NOT NULL, parent BLOB NOT NULL,
  name BLOB NOT NULL, kind INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, executable INTEGER NOT NULL, since REAL NOT NULL,
  looked INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(mapping, destination, parent, name, size, mtime_ns)) WITHOUT ROWID;
"""

MOST = 50_000
"""Rows of one delivery: more than it may have on its way."""

_FILE = stat_row(FileStat(FileKind.FILE, 0, 0, 0, 0, executable=False))[0]
_NOTE = f"""
INSERT OR REPLACE INTO uncertain SELECT f.mapping, f.destination, f.parent, f.name, {STAT_COLUMNS}, ?, 0
FROM in_flight f WHERE f.attempt=? AND f.kind={_FILE}
"""  # noqa: S608


class Uncertain(NamedTuple):
    """One version under one path. `since` is Unix seconds; `looked`: it was not there at a first look."""

    path: str
    stat: FileStat
    since: float
    looked: bool


def attempt_uncertain(db: Database, number: int, now: float) -> None:
    """All that an attempt still has in flight; in the transaction that closes it."""
    db.execute(_NOTE + " LIMIT ?", (now, number, _room(db, number)))


def _room(db: Database, number: int) -> int:
    row = db.row(
        "SELECT count(*) FROM uncertain u JOIN attempts a ON u.mapping=a.mapping"
        " AND u.destination=a.destination WHERE a.number=?",
        (number,),
    )
    return MOST if row is None else max(0, MOST - int(row[0]))


class Uncertainties:
    def __init__(self, db: Database) -> None:
        self._db = db

    def note(self, number: int, paths: list[str], now: float) -> None:
        """These of an attempt's paths, while they are in flight."""
        if not paths:
            return
        with self._db.transaction():
            rows = [(now, number, *split(path)) for path in paths[: _room(self._db, number)]]
            self._db.execute_many(_NOTE + " AND f.parent=? AND f.name=?", rows)

    def count(self, mapping: str, destination: str) -> int:
        row = self._db.row(
            "SELECT count(*) FROM uncertain WHERE mapping=? AND destination=?", (mapping, destination)
        )
        return 0 if row is None else int(row[0])

    def any(self, mapping: str, destination: str) -> bool:
        return self._db.row(f"SELECT 1 FROM uncertain {_OF} LIMIT 1", (mapping, destination)) is not None  # noqa: S608

    def drop_known(self, mapping: str, destination: str) -> None:
        """What the ledger speaks of is certain again."""
        self._db.execute(
            f"DELETE FROM uncertain {_OF} AND EXISTS (SELECT 1 FROM deliveries v"  # noqa: S608
            " JOIN directories d ON d.delivery=v.id JOIN ledger l ON l.directory=d.id"
            " WHERE v.mapping=uncertain.mapping AND v.destination=uncertain.destination"
            " AND d.path=uncertain.parent AND l.name=uncertain.name)",
            (mapping, destination),
        )

    def resting(
        self, mapping: str, destination: str, before: float, after: str, most: int
    ) -> tuple[Uncertain, ...]:
        """Those that are not on their way again, and were never looked for or are older than `before`; in the
        order of their paths, behind `after`."""
        parent, name = split(after) if after else (b"", b"")
        rows = self._db.rows(
            f"SELECT parent, name, since, looked, {STAT_COLUMNS} FROM uncertain {_OF}"  # noqa: S608
            " AND (parent, name) > (?, ?) AND (looked=0 OR since<=?)"
            " AND NOT EXISTS (SELECT 1 FROM in_flight f"
            " WHERE f.mapping=uncertain.mapping AND f.destination=uncertain.destination"
            " AND f.parent=uncertain.parent AND f.name=uncertain.name)"
            " ORDER BY parent, name LIMIT ?",
            (mapping, destination, parent, name, before, most),
        )
        return tuple(Uncertain(join(r[0], r[1]), to_stat(r[4:]), float(r[2]), bool(r[3])) for r in rows)

    def next_due(self, mapping: str, destination: str) -> float | None:
        """Since when the oldest is noted that was looked for once."""
        row = self._db.row(
            f"SELECT min(since) FROM uncertain {_OF} AND looked=1",  # noqa: S608
            (mapping, destination),
        )
        return None if row is None or row[0] is None else float(row[0])

    def set_looked(self, mapping: str, destination: str, some: Iterable[Uncertain]) -> None:
        self._each("UPDATE uncertain SET looked=1", mapping, destination, some)

    def drop(self, mapping: str, destination: str, some: Iterable[Uncertain]) -> None:
        self._each("DELETE FROM uncertain", mapping, destination, some)

    def clear(self, mapping: str, destination: str) -> None:
        self._db.execute(f"DELETE FROM uncertain {_OF}", (mapping, destination))  # noqa: S608

    def _each(self, verb: str, mapping: str, destination: str, some: Iterable[Uncertain]) -> None:
        rows: list[tuple[Any, ...]] = [
            (mapping, destination, *split(u.path), u.stat.size, u.stat.mtime_ns) for u in some
        ]
        with self._db.transaction():
            self._db.execute_many(f"{verb} {_OF} AND parent=? AND name=? AND size=? AND mtime_ns=?", rows)


_OF = "WHERE mapping=? AND destination=?"
