"""Which rows of the ledger are of source files that the agent deleted because every destination has them.

The mark is part of the row: it goes where the row goes, and a new version under the same path has none. It
is written before the file is deleted, so a file that is there in spite of it is deleted later.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from agent.model.known import Known, Origin
from agent.state.connection import Database
from agent.state.paths import STAT_COLUMNS, below, join, split, to_stat

SCHEMA = """
ALTER TABLE ledger ADD COLUMN released_at REAL;
CREATE INDEX ledger_released ON ledger(directory) WHERE released_at IS NOT NULL;
"""

_NAMES = 500  # of one statement
_DELIVERY = "(SELECT id FROM deliveries WHERE mapping=? AND destination=?)"
_DIRECTORY = f"(SELECT id FROM directories WHERE delivery={_DELIVERY} AND path=?)"  # noqa: S608


class Released:
    def __init__(self, db: Database) -> None:
        self._db = db

    def mark(self, mapping: str, destination: str, paths: Iterable[str], now: float) -> None:
        """No other file is taken for one of these for having its inode. Unknown paths are no error."""
        with self._db.transaction():
            self._db.execute_many(
                f"UPDATE ledger SET released_at=?, inode=0 WHERE name=? AND directory={_DIRECTORY}",  # noqa: S608
                [(now, name, mapping, destination, parent) for parent, name in map(split, paths)],
            )

    def unmark(self, mapping: str, destination: str, paths: Iterable[str]) -> None:
        with self._db.transaction():
            self._db.execute_many(
                f"UPDATE ledger SET released_at=NULL WHERE name=? AND directory={_DIRECTORY}",  # noqa: S608
                [(name, mapping, destination, parent) for parent, name in map(split, paths)],
            )

    def among(self, mapping: str, destination: str, paths: Iterable[str]) -> frozenset[str]:
        """Which of these paths are marked."""
        found: set[str] = set()
        for parent, names in _grouped(paths):
            rows = self._db.rows(
                f"SELECT name FROM ledger WHERE directory={_DIRECTORY}"  # noqa: S608
                f" AND name IN ({','.join('?' * len(names))}) AND released_at IS NOT NULL",
                (mapping, destination, parent, *names),
            )
            found.update(join(parent, row[0]) for row in rows)
        return frozenset(found)

    def count(self, mapping: str, destination: str, prefix: str = "/") -> int:
        """How many at or below `prefix`."""
        total = 0
        for condition, values in _places(prefix):
            row = self._db.row(
                "SELECT count(*) FROM directories CROSS JOIN ledger INDEXED BY ledger_released"  # noqa: S608
                f" ON directory = id AND released_at IS NOT NULL WHERE delivery={_DELIVERY} AND {condition}",
                (mapping, destination, *values),
            )
            total += 0 if row is None else int(row[0])
        return total + (prefix in self.among(mapping, destination, [prefix]))

    def any_below(self, mapping: str, destination: str, directory: str) -> bool:
        for condition, values in _places(directory):
            row = self._db.row(
                "SELECT 1 FROM directories CROSS JOIN ledger INDEXED BY ledger_released"  # noqa: S608
                f" ON directory = id AND released_at IS NOT NULL WHERE delivery={_DELIVERY} AND {condition}"
                " LIMIT 1",
                (mapping, destination, *values),
            )
            if row is not None:
                return True
        return False

    def rows(self, mapping: str, destination: str, paths: Iterable[str]) -> dict[str, Known]:
        """The rows of these paths, marked or not."""
        found: dict[str, Known] = {}
        for parent, names in _grouped(paths):
            rows = self._db.rows(
                f"SELECT name, digest, origin, delivered_at, {STAT_COLUMNS} FROM ledger"  # noqa: S608
                f" WHERE directory={_DIRECTORY} AND name IN ({','.join('?' * len(names))})",
                (mapping, destination, parent, *names),
            )
            for name, digest, origin, at, *stat in rows:
                path = join(parent, name)
                found[path] = Known(path, to_stat(tuple(stat)), str(digest), Origin(origin), float(at))
        return found


def _grouped(paths: Iterable[str]) -> Iterator[tuple[bytes, list[bytes]]]:
    by_parent: dict[bytes, list[bytes]] = {}
    for path in paths:
        parent, name = split(path)
        by_parent.setdefault(parent, []).append(name)
    for parent, names in by_parent.items():
        for start in range(0, len(names), _NAMES):
            yield parent, names[start : start + _NAMES]


def _places(directory: str) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    """A directory itself, and those below it."""
    return ("path=?", (os.fsencode(directory),)), ("path>? AND path<?", below(directory))
