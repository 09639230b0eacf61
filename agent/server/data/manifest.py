"""The entries of one transfer, page by page, from the control process's database (read only)."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.server import results
from agent.server.results import Outcome
from agent.server.sources import of_stored
from agent.server.store import manifests

PAGE = 2048
_COLUMNS = "seq, dest, src, kind, size, executable, mtime_us"
_BUSY_SECONDS = 30.0
KIND_DIRECTORY = 1
KIND_LINK = 2


@dataclass(slots=True)
class Entry:
    """One file (kind 0), empty directory (1) or link (2) to send. `size` is a hint, -1 when unknown. Made of
    the columns of a row, in their order."""

    seq: int
    dest: bytes
    src: bytes
    kind: int
    size: int
    executable: int
    mtime_us: int | None
    attempts: int = 0

    @property
    def path(self) -> str:
        """Of the source."""
        return os.fsdecode(self.src)


@dataclass(slots=True)
class Totals:
    """What earlier runs of the transfer finished."""

    files: int = 0
    bytes: int = 0
    failed: int = 0


class Reader:
    """One connection for all transfers of this process, however many wait. For any thread."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._db: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def rows(self, statement: str, *values: int) -> list[Any]:
        """sqlite3.Error when the database cannot be read."""
        with self._lock:
            return self._opened().execute(statement, values).fetchall()

    def each(self, use: Callable[[bytes], None], statement: str, *values: int) -> None:
        """The first column of each row, one after the other."""
        with self._lock:
            for row in self._opened().execute(statement, values):
                use(row[0])

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            uri = f"{self._database.absolute().as_uri()}?mode=ro"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=_BUSY_SECONDS)
        return self._db


class Manifest:
    """For one thread at a time. One that is still being made may have no more entries just now: then it
    `waits`, until somebody says that it has grown."""

    def __init__(
        self, reader: Reader, manifest_id: int, transfer_id: int, *, skip_vanished: bool = True
    ) -> None:
        """Raises sqlite3.Error when the database cannot be read. `skip_vanished`: sources that were gone are
        not looked for again."""
        self._reader = reader
        self._id = manifest_id
        self._after = -1
        self._done = bytearray()
        self._again = (Outcome.FAILED,) if skip_vanished else (Outcome.FAILED, Outcome.VANISHED)
        rows = reader.rows("SELECT roots FROM manifests WHERE id=?", manifest_id)
        self.sources = of_stored(rows[0][0] if rows else None)
        self.totals = Totals()
        self.exhausted = self.waits = self._made = False
        self.trouble = ""  # why it will never be complete
        self._look()
        self.total_size = self._size() if self._made else 0  # 0: not known
        results_of = "SELECT data FROM transfer_results WHERE transfer_id=? ORDER BY batch"
        reader.each(self._note, results_of, transfer_id)

    def _note(self, data: bytes) -> None:
        for record in results.unpack(data):
            if record.outcome in self._again:
                continue
            if record.seq >= len(self._done):
                self._done.extend(bytes(max(record.seq + 1, 2 * len(self._done)) - len(self._done)))
            self._done[record.seq] = 1
            self.totals.files += 1
            self.totals.bytes += record.size

    def _look(self) -> None:
        rows = self._reader.rows("SELECT status, error FROM manifests WHERE id=?", self._id)
        status, error = rows[0] if rows else (manifests.COMPLETE, "")
        self._made = status != manifests.PENDING
        self.trouble = str(error) if status == manifests.ERROR else ""

    def _size(self) -> int:
        query = "SELECT coalesce(sum(max(size, 0)), 0) FROM manifest_files WHERE manifest_id=?"
        return int(self._reader.rows(query, self._id)[0][0])

    @property
    def has_more(self) -> bool:
        """Whether it is worth asking for a page."""
        return not (self.exhausted or self.waits)

    def page(self) -> list[Entry]:
        """The next entries that are not done, in order; empty when there are no more."""
        while self.has_more:
            if not self._made:
                self._look()  # before the rows: none is missing once it is made
            rows = self._reader.rows(
                f"SELECT {_COLUMNS} FROM manifest_files"  # noqa: S608
                f" WHERE manifest_id=? AND seq>? ORDER BY seq LIMIT {PAGE}",
                self._id,
                self._after,
            )
            last = len(rows) < PAGE
            self.exhausted, self.waits = last and self._made, last and not self._made
            if rows:
                self._after = rows[-1][0]
            found = [Entry(*row) for row in rows if not self._is_done(row[0])]
            if found:
                return found
        return []

    def fetch(self, seqs: Iterable[int]) -> list[Entry]:
        """Entries by number."""
        statement = f"SELECT {_COLUMNS} FROM manifest_files WHERE manifest_id=? AND seq=?"  # noqa: S608
        return [Entry(*row) for seq in seqs for row in self._reader.rows(statement, self._id, seq)]

    def _is_done(self, seq: int) -> bool:
        return seq < len(self._done) and self._done[seq] == 1
