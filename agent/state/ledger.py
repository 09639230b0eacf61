"""The ledger: what has been delivered, per mapping, destination and path.

A row says which version of the source was read by the sender and became durable at the destination.
Paths are full destination paths. Children of one directory are one range read; counts and byte totals are
kept per directory by triggers, so they are as true as the rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from agent.model.change import FileStat
from agent.model.known import Known, Origin
from agent.state.connection import Database
from agent.state.paths import STAT_COLUMNS, below, join, signed, split, stat_row, to_stat

SCHEMA = """
CREATE TABLE deliveries(id INTEGER PRIMARY KEY, mapping TEXT NOT NULL, destination TEXT NOT NULL,
  UNIQUE(mapping, destination));
CREATE TABLE directories(id INTEGER PRIMARY KEY, delivery INTEGER NOT NULL, path BLOB NOT NULL,
  files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, digest BLOB, UNIQUE(delivery, path));
CREATE TABLE ledger(directory INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
  executable INTEGER NOT NULL, digest TEXT NOT NULL, attempt INTEGER NOT NULL, delivered_at REAL NOT NULL,
  PRIMARY KEY(directory, name)) WITHOUT ROWID;
CREATE TRIGGER ledger_added AFTER INSERT ON ledger BEGIN
  UPDATE directories SET files = files + 1, bytes = bytes + new.size, digest = NULL WHERE id = new.directory;
END;
CREATE TRIGGER ledger_changed AFTER UPDATE ON ledger BEGIN
  UPDATE directories SET bytes = bytes - old.size + new.size, digest = NULL WHERE id = new.directory;
END;
CREATE TRIGGER ledger_removed AFTER DELETE ON ledger BEGIN
  UPDATE directories SET files = files - 1, bytes = bytes - old.size, digest = NULL WHERE id = old.directory;
END;
"""

INODES = "CREATE INDEX ledger_inode ON ledger(inode);"
"""What finds the row of a file that has another path now."""

_PAGE = 2000
_INODES = 500  # asked for at once
_NAMES = 500  # of one statement

_UPSERT = """
INSERT INTO ledger(directory, name, kind, size, mtime_ns, ctime_ns, inode, executable, digest, attempt,
  delivered_at, origin) VALUES(?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(directory, name) DO UPDATE SET
  kind=excluded.kind, size=excluded.size, mtime_ns=excluded.mtime_ns, ctime_ns=excluded.ctime_ns,
  inode=excluded.inode, executable=excluded.executable, digest=excluded.digest, attempt=excluded.attempt,
  delivered_at=excluded.delivered_at, origin=excluded.origin, released_at=NULL
"""


Directories = dict[str, tuple[int, bytes | None]]
"""By path: files directly in it, and the listing digest last set."""


class LedgerRow(NamedTuple):
    """What was delivered under one path, by which attempt, and when (Unix seconds)."""

    stat: FileStat
    digest: str
    attempt: int
    at: float
    origin: Origin


class Ledger:
    def __init__(self, db: Database) -> None:
        self._db = db

    # -- reading

    def entry(self, mapping: str, destination: str, path: str) -> FileStat | None:
        parent, name = split(path)
        row = self._db.row(
            f"SELECT {STAT_COLUMNS} FROM ledger WHERE name=? AND directory={_DIRECTORY}",  # noqa: S608
            (name, mapping, destination, parent),
        )
        return None if row is None else to_stat(row)

    def digest(self, mapping: str, destination: str, path: str) -> str:
        """Content digest of what was delivered, as hex; empty when it is not known."""
        parent, name = split(path)
        row = self._db.row(
            f"SELECT digest FROM ledger WHERE name=? AND directory={_DIRECTORY}",  # noqa: S608
            (name, mapping, destination, parent),
        )
        return "" if row is None else str(row[0])

    def row(self, mapping: str, destination: str, path: str) -> LedgerRow | None:
        """All that is known of one path."""
        parent, name = split(path)
        row = self._db.row(
            f"SELECT {STAT_COLUMNS}, digest, attempt, delivered_at, origin FROM ledger"  # noqa: S608
            f" WHERE name=? AND directory={_DIRECTORY}",
            (name, mapping, destination, parent),
        )
        if row is None:
            return None
        digest, attempt, at, origin = row[6:]
        return LedgerRow(to_stat(row[:6]), digest, attempt, at, Origin(origin))

    def known(self, mapping: str, destination: str, paths: Iterable[str]) -> set[str]:
        """Which of these paths have a row; as many statements as directories."""
        by_parent: dict[bytes, list[bytes]] = {}
        for path in paths:
            parent, name = split(path)
            by_parent.setdefault(parent, []).append(name)
        found: set[str] = set()
        for parent, names in by_parent.items():
            for start in range(0, len(names), _NAMES):
                some = names[start : start + _NAMES]
                rows = self._db.rows(
                    f"SELECT name FROM ledger WHERE directory={_DIRECTORY}"  # noqa: S608
                    f" AND name IN ({','.join('?' * len(some))})",
                    (mapping, destination, parent, *some),
                )
                found.update(join(parent, row[0]) for row in rows)
        return found

    def directory(self, mapping: str, destination: str, directory: str) -> dict[str, FileStat]:
        """Direct children of one directory, by full path."""
        parent = os.fsencode(directory)
        rows = self._db.rows(
            f"SELECT name, {STAT_COLUMNS} FROM ledger WHERE directory={_DIRECTORY}",  # noqa: S608
            (mapping, destination, parent),
        )
        return {join(parent, row[0]): to_stat(row[1:]) for row in rows}

    def directories_below(self, mapping: str, destination: str, prefix: str) -> Iterator[str]:
        """Directories with rows of their own: `prefix` if it has some, then those below, in byte order."""
        for _, path in self._directories(mapping, destination, prefix):
            yield os.fsdecode(path)

    def under(self, mapping: str, destination: str, prefix: str) -> Iterator[tuple[str, FileStat]]:
        """Every row at or below `prefix`; read page by page, so rows may change meanwhile."""
        own = self.entry(mapping, destination, prefix)
        if own is not None:
            yield prefix, own
        for number, path in self._directories(mapping, destination, prefix):
            for name, stat in self._children(number):
                yield join(path, name), stat

    def with_inodes(self, mapping: str, destination: str, inodes: Iterable[int]) -> Iterator[Known]:
        """The rows whose source had one of these inodes when it was read."""
        asked = iter(inodes)
        while batch := [signed(inode) for inode in islice(asked, _INODES)]:
            marks = ",".join("?" * len(batch))
            rows = self._db.rows(
                f"SELECT path, name, ledger.digest, origin, delivered_at, {STAT_COLUMNS} FROM ledger"  # noqa: S608
                f" JOIN directories ON id = directory WHERE inode IN ({marks}) AND delivery={_DELIVERY}",
                (*batch, mapping, destination),
            )
            for parent, name, digest, origin, at, *stat in rows:
                yield Known(join(parent, name), to_stat(tuple(stat)), str(digest), Origin(origin), float(at))

    def count(self, mapping: str, destination: str, prefix: str = "/") -> int:
        return self._total("files", mapping, destination, prefix)

    def total_bytes(self, mapping: str, destination: str, prefix: str = "/") -> int:
        return self._total("bytes", mapping, destination, prefix)

    def has_under(self, mapping: str, destination: str, prefix: str) -> bool:
        """Is there a row at or below `prefix`?"""
        if self.entry(mapping, destination, prefix) is not None:
            return True
        return next(self._directories(mapping, destination, prefix), None) is not None

    def few_directories(self, mapping: str, destination: str, most: int) -> Directories | None:
        """All that is known of the directories of a small delivery, in byte order; None when there are more.
        One question, where a look at a small mapping would ask a dozen."""
        rows = self._db.rows(
            f"SELECT path, files, digest FROM directories WHERE delivery={_DELIVERY} ORDER BY path LIMIT ?",  # noqa: S608
            (mapping, destination, most + 1),
        )
        return (
            {os.fsdecode(path): (files, digest) for path, files, digest in rows}
            if len(rows) <= most
            else None
        )

    # -- writing

    def record(
        self,
        mapping: str,
        destination: str,
        items: Iterable[tuple[str, FileStat, str, int]],
        now: float,
        origin: Origin = Origin.DELIVERED,
    ) -> None:
        """Delivered and durable: (path, what the sender read, digest as hex or "", attempt)."""
        with self._db.transaction():
            known: dict[bytes, int] = {}
            delivery = self._delivery(mapping, destination)
            rows = []
            for path, stat, digest, attempt in items:
                parent, name = split(path)
                if parent not in known:
                    known[parent] = self._directory(delivery, parent)
                rows.append((known[parent], name, *stat_row(stat), digest, attempt, now, int(origin)))
            self._db.execute_many(_UPSERT, rows)

    def forget(self, mapping: str, destination: str, paths: Iterable[str]) -> None:
        """The rows no longer say anything about the destination. Unknown paths are no error."""
        with self._db.transaction():
            touched = set()
            rows = []
            for path in paths:
                parent, name = split(path)
                touched.add(parent)
                rows.append((name, mapping, destination, parent))
            self._db.execute_many(f"DELETE FROM ledger WHERE name=? AND directory={_DIRECTORY}", rows)  # noqa: S608
            self._db.execute_many(
                f"DELETE FROM directories WHERE id={_DIRECTORY} AND files=0 AND digest IS NULL",  # noqa: S608
                [(mapping, destination, parent) for parent in touched],
            )

    def kept(self, mapping: str, destination: str, paths: Iterable[str]) -> frozenset[str]:
        """Which of these paths are what the overwrite mode left there: not ours, though we know them."""
        wanted = set(paths)
        found: set[str] = set()
        for parent in {split(path)[0] for path in wanted}:
            rows = self._db.rows(
                f"SELECT name FROM ledger WHERE origin=? AND directory={_DIRECTORY}",  # noqa: S608
                (int(Origin.KEPT), mapping, destination, parent),
            )
            found.update(join(parent, row[0]) for row in rows)
        return frozenset(found & wanted)

    def verified(self, mapping: str, destination: str, digests: Mapping[str, str]) -> None:
        """The digests of contents that were found to be alike at both ends."""
        with self._db.transaction():
            for path, digest in digests.items():
                parent, name = split(path)
                self._db.execute(
                    f"UPDATE ledger SET digest=? WHERE name=? AND directory={_DIRECTORY}",  # noqa: S608
                    (digest, name, mapping, destination, parent),
                )

    def hand_over(self, old: str, new: str, destination: str) -> bool:
        """All rows of one mapping become those of another that has none; False when it has some."""
        with self._db.transaction():
            if self.count(new, destination):
                return False
            self.drop(new, destination)
            for table in ("deliveries", "uncertain"):
                self._db.execute(
                    f"UPDATE {table} SET mapping=? WHERE mapping=? AND destination=?",  # noqa: S608
                    (new, old, destination),
                )
        return True

    def forget_inodes(self, mapping: str, destination: str, paths: Iterable[str]) -> None:
        """These rows are not found by inode any more. Unknown paths are no error."""
        with self._db.transaction():
            self._db.execute_many(
                f"UPDATE ledger SET inode=0 WHERE name=? AND directory={_DIRECTORY}",  # noqa: S608
                [(name, mapping, destination, parent) for parent, name in map(split, paths)],
            )

    def drop(self, mapping: str, destination: str) -> None:
        """Forget all of a mapping at a destination, with what looks at it have found."""
        with self._db.transaction():
            for table in ("looks", "uncertain"):
                key = (mapping, destination)
                self._db.execute(f"DELETE FROM {table} WHERE mapping=? AND destination=?", key)  # noqa: S608
            row = self._db.row(
                "SELECT id FROM deliveries WHERE mapping=? AND destination=?", (mapping, destination)
            )
            if row is None:
                return
            self._db.execute(
                "DELETE FROM ledger WHERE directory IN (SELECT id FROM directories WHERE delivery=?)", row
            )
            self._db.execute("DELETE FROM directories WHERE delivery=?", row)
            self._db.execute("DELETE FROM deliveries WHERE id=?", row)

    def deliveries(self) -> tuple[tuple[str, str], ...]:
        """Every (mapping, destination) that the ledger has ever had a row of, until dropped."""
        rows = self._db.rows("SELECT mapping, destination FROM deliveries ORDER BY mapping, destination")
        return tuple((str(m), str(d)) for m, d in rows)

    def totals(self) -> tuple[tuple[str, str, int, int], ...]:
        """(mapping, destination, files, bytes) of every delivery, in one look."""
        rows = self._db.rows(
            "SELECT mapping, destination, coalesce(sum(files), 0), coalesce(sum(bytes), 0) FROM deliveries"
            " LEFT JOIN directories ON delivery = deliveries.id GROUP BY deliveries.id"
            " ORDER BY mapping, destination"
        )
        return tuple((str(m), str(d), int(files), int(size)) for m, d, files, size in rows)

    # -- directory digests: "this listing of the source has been dealt with"

    def digest_of(self, mapping: str, destination: str, directory: str) -> bytes | None:
        """The listing digest last set; None after any record or forget of a direct child."""
        row = self._db.row(
            f"SELECT digest FROM directories WHERE id={_DIRECTORY}",  # noqa: S608
            (mapping, destination, os.fsencode(directory)),
        )
        return None if row is None or row[0] is None else bytes(row[0])

    def set_digests(self, mapping: str, destination: str, digests: Mapping[str, bytes]) -> None:
        with self._db.transaction():
            delivery = self._delivery(mapping, destination)
            self._db.execute_many(
                "INSERT INTO directories(delivery, path, digest) VALUES(?,?,?)"
                " ON CONFLICT(delivery, path) DO UPDATE SET digest=excluded.digest",
                [(delivery, os.fsencode(path), digest) for path, digest in digests.items()],
            )

    def clear_digests(self, mapping: str, destination: str, prefix: str = "/") -> None:
        """Make the next scan compare every directory at or below `prefix` row by row."""
        with self._db.transaction():
            low, high = below(prefix)
            where = f"WHERE delivery={_DELIVERY} AND path"
            for condition, values in (
                (f"{where}=?", (os.fsencode(prefix),)),
                (f"{where}>? AND path<?", (low, high)),
            ):
                key = (mapping, destination, *values)
                self._db.execute(f"UPDATE directories SET digest=NULL {condition}", key)  # noqa: S608
                self._db.execute(f"DELETE FROM directories {condition} AND files=0", key)  # noqa: S608

    # -- rows

    def _delivery(self, mapping: str, destination: str) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO deliveries(mapping, destination) VALUES(?,?)", (mapping, destination)
        )
        row = self._db.row(
            "SELECT id FROM deliveries WHERE mapping=? AND destination=?", (mapping, destination)
        )
        return 0 if row is None else int(row[0])

    def _directory(self, delivery: int, path: bytes) -> int:
        row = self._db.row("SELECT id FROM directories WHERE delivery=? AND path=?", (delivery, path))
        if row is not None:
            return int(row[0])
        return self._db.insert("INSERT INTO directories(delivery, path) VALUES(?,?)", (delivery, path))

    def _directories(self, mapping: str, destination: str, prefix: str) -> Iterator[tuple[int, bytes]]:
        own = self._db.row(
            f"SELECT id, path FROM directories WHERE delivery={_DELIVERY} AND path=? AND files>0",  # noqa: S608
            (mapping, destination, os.fsencode(prefix)),
        )
        if own is not None:
            yield int(own[0]), bytes(own[1])
        after, high = below(prefix)
        while True:
            rows = self._db.rows(
                f"SELECT id, path FROM directories WHERE delivery={_DELIVERY} AND path>? AND path<?"  # noqa: S608
                " AND files>0 ORDER BY path LIMIT ?",
                (mapping, destination, after, high, _PAGE),
            )
            for number, path in rows:
                yield int(number), bytes(path)
            if len(rows) < _PAGE:
                return
            after = rows[-1][1]

    def _children(self, directory: int) -> Iterator[tuple[bytes, FileStat]]:
        after = b""
        while True:
            rows = self._db.rows(
                f"SELECT name, {STAT_COLUMNS} FROM ledger WHERE directory=? AND name>?"  # noqa: S608
                " ORDER BY name LIMIT ?",
                (directory, after, _PAGE),
            )
            for row in rows:
                yield row[0], to_stat(row[1:])
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def _total(self, column: str, mapping: str, destination: str, prefix: str) -> int:
        low, high = below(prefix)
        total = 0
        for condition, values in (("path=?", (os.fsencode(prefix),)), ("path>? AND path<?", (low, high))):
            row = self._db.row(
                f"SELECT coalesce(sum({column}), 0) FROM directories"  # noqa: S608
                f" WHERE delivery={_DELIVERY} AND {condition}",
                (mapping, destination, *values),
            )
            total += 0 if row is None else int(row[0])
        own = self.entry(mapping, destination, prefix)
        if own is not None:
            total += 1 if column == "files" else own.size
        return total


_DELIVERY = "(SELECT id FROM deliveries WHERE mapping=? AND destination=?)"
_DIRECTORY = f"(SELECT id FROM directories WHERE delivery={_DELIVERY} AND path=?)"  # noqa: S608
