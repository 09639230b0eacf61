"""The entries of one transfer, page by page, from the control process's database (read only)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.server import results
from agent.server.results import Outcome
from agent.server.sources import of_stored

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


class Manifest:
    """For one thread at a time."""

    def __init__(
        self, database: Path, manifest_id: int, transfer_id: int, *, skip_vanished: bool = True
    ) -> None:
        """Raises sqlite3.Error when the database cannot be read. `skip_vanished`: sources that were gone are
        not looked for again."""
        uri = f"{database.absolute().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=_BUSY_SECONDS)
        self._id = manifest_id
        self._after = -1
        self._done = bytearray()
        self._again = (Outcome.FAILED,) if skip_vanished else (Outcome.FAILED, Outcome.VANISHED)
        row = self._db.execute("SELECT roots FROM manifests WHERE id=?", (manifest_id,)).fetchone()
        self.sources = of_stored(None if row is None else row[0])
        self.totals = Totals()
        self.exhausted = False
        (self.total_size,) = self._db.execute(
            "SELECT coalesce(sum(max(size, 0)), 0) FROM manifest_files WHERE manifest_id=?", (manifest_id,)
        ).fetchone()
        for (data,) in self._db.execute(
            "SELECT data FROM transfer_results WHERE transfer_id=? ORDER BY batch", (transfer_id,)
        ):
            self._note(data)

    def _note(self, data: bytes) -> None:
        for record in results.unpack(data):
            if record.outcome in self._again:
                continue
            if record.seq >= len(self._done):
                self._done.extend(bytes(max(record.seq + 1, 2 * len(self._done)) - len(self._done)))
            self._done[record.seq] = 1
            self.totals.files += 1
            self.totals.bytes += record.size

    def page(self) -> list[Entry]:
        """The next entries that are not done, in order; empty when there are no more."""
        while not self.exhausted:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM manifest_files"  # noqa: S608
                f" WHERE manifest_id=? AND seq>? ORDER BY seq LIMIT {PAGE}",
                (self._id, self._after),
            ).fetchall()
            self.exhausted = len(rows) < PAGE
            if rows:
                self._after = rows[-1][0]
            found = [Entry(*row) for row in rows if not self._is_done(row[0])]
            if found:
                return found
        return []

    def fetch(self, seqs: Iterable[int]) -> list[Entry]:
        """Entries by number."""
        statement = f"SELECT {_COLUMNS} FROM manifest_files WHERE manifest_id=? AND seq=?"  # noqa: S608
        rows = (self._db.execute(statement, (self._id, seq)).fetchone() for seq in seqs)
        return [Entry(*row) for row in rows if row is not None]

    def _is_done(self, seq: int) -> bool:
        return seq < len(self._done) and self._done[seq] == 1

    def close(self) -> None:
        self._db.close()
