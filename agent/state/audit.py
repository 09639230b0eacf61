"""The audit trail: what was done, by whom, under which revision, and to which files. Append-only, bounded.

An act is one row: an attempt that ended, a destination that was changed, something a person asked for. The
files of an attempt are kept in compressed pages of what came in together, so that a delivery of a million
files costs a small part of what the ledger takes. The oldest go first: by number, and by age.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agent.state.connection import Database, Row

SCHEMA = """
CREATE TABLE audit(seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, key TEXT NOT NULL,
  destination TEXT NOT NULL, action TEXT NOT NULL, revision TEXT NOT NULL, attempt INTEGER,
  files INTEGER NOT NULL, failed INTEGER NOT NULL, bytes INTEGER NOT NULL, duration REAL,
  outcome TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL, error TEXT NOT NULL, request TEXT NOT NULL);
CREATE INDEX audit_key ON audit(key, seq);
CREATE TABLE audit_files(seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
  mapping TEXT NOT NULL, destination TEXT NOT NULL, attempt INTEGER, revision TEXT NOT NULL,
  low BLOB NOT NULL, high BLOB NOT NULL, files INTEGER NOT NULL, failed INTEGER NOT NULL,
  bytes INTEGER NOT NULL, content BLOB NOT NULL);
CREATE INDEX audit_files_attempt ON audit_files(attempt);
"""

MAX_ACTS = 100_000
MAX_BYTES = 64 << 20
MAX_AGE = 90 * 86400.0
TRIM_EVERY = 1000
"""Pages, or acts, between two looks for what is too old or too much."""
PAGE_OVERHEAD = 150
"""Bytes that a page takes beside its content."""

PAGE = 2000
AGENT = "agent"
"""Who did what nobody asked for by hand."""

_ACT = (
    "at, key, action, revision, destination, attempt, files, failed, bytes, duration, outcome, who, reason,"
    " error, request, seq"
)
_PAGES = "seq, at, mapping, destination, attempt, revision, content"


class FileAct(NamedTuple):
    """What was done to one file: `action` is `create`, `update`, `delete`, `rename`, `adopt`, `release`,
    `skip` or `fail`."""

    action: str
    path: str
    size: int = 0
    digest: str = ""
    error: str = ""
    detail: str = ""  # of a rename: the path before


@dataclass(frozen=True, slots=True)
class Act:
    at: float
    key: str  # "Mapping/dailies"; empty = about the agent
    action: str
    revision: str = ""
    destination: str = ""
    attempt: int | None = None
    files: int = 0
    failed: int = 0
    bytes: int = 0
    duration: float | None = None  # seconds
    outcome: str = ""
    who: str = AGENT
    reason: str = ""
    error: str = ""
    request: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class FileLine:
    seq: int  # of its page
    at: float
    mapping: str
    destination: str
    attempt: int | None
    revision: str
    file: FileAct


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept; whichever is reached first."""

    acts: int = MAX_ACTS
    bytes: int = MAX_BYTES  # of the lines about files, as they are stored
    age: float = MAX_AGE  # seconds


class Audit:
    def __init__(self, db: Database, retention: Retention = Retention()) -> None:
        self._db = db
        self.retention = retention

    # -- writing

    def add(self, act: Act) -> int:
        with self._db.transaction():
            seq = _insert(self._db, act)
            if seq % TRIM_EVERY == 0:
                self.trim(act.at)
        return seq

    def add_files(
        self,
        mapping: str,
        destination: str,
        attempt: int | None,
        revision: str,
        files: Sequence[FileAct],
        now: float,
    ) -> None:
        """Part of the transaction that records what they are about."""
        for start in range(0, len(files), PAGE):
            page = files[start : start + PAGE]
            paths = [os.fsencode(f.path) for f in page] + [os.fsencode(f.detail) for f in page if f.detail]
            done = [f for f in page if f.action not in ("fail", "skip")]
            failed = sum(f.action == "fail" for f in page)
            with self._db.transaction():
                seq = self._db.insert(
                    "INSERT INTO audit_files VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?)",
                    (
                        now,
                        mapping,
                        destination,
                        attempt,
                        revision,
                        min(paths),
                        max(paths),
                        len(done),
                        failed,
                        sum(f.size for f in done if f.action in ("create", "update")),
                        _pack(page),
                    ),
                )
                if seq % TRIM_EVERY == 0:
                    self.trim(now)

    def trim(self, now: float) -> None:
        """Remove what is older or more than is kept."""
        keep = self.retention
        self._db.execute("DELETE FROM audit WHERE at<?", (now - keep.age,))
        self._db.execute("DELETE FROM audit_files WHERE at<?", (now - keep.age,))
        self._db.execute(
            "DELETE FROM audit WHERE seq <= (SELECT seq FROM audit ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (keep.acts,),
        )
        self._db.execute(
            "DELETE FROM audit_files WHERE seq <= (SELECT coalesce(max(seq), 0) FROM (SELECT seq,"
            " sum(length(content) + ?) OVER (ORDER BY seq DESC) AS total FROM audit_files) WHERE total > ?)",
            (PAGE_OVERHEAD, keep.bytes),
        )

    # -- reading

    def acts(
        self,
        *,
        key: str | None = None,
        since: float = 0.0,
        after: int = 0,
        limit: int = 1000,
    ) -> tuple[Act, ...]:
        """The newest `limit` that are about `key` (also what other objects did at it), oldest first."""
        conditions, values = ["at>=?", "seq>?"], [since, after]
        if key is not None:
            kind, _, name = key.partition("/")
            conditions.append("(key=? OR destination=?)" if kind == "Destination" else "key=?")
            values += [key, name] if kind == "Destination" else [key]  # type: ignore[list-item]
        rows = self._db.rows(
            f"SELECT {_ACT} FROM audit WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?",  # noqa: S608
            (*values, limit),
        )
        return tuple(Act(*row) for row in reversed(rows))

    def last_attempt(self) -> int:
        """The newest attempt that has ended; 0 when there was none."""
        row = self._db.row("SELECT attempt FROM audit WHERE attempt IS NOT NULL ORDER BY seq DESC LIMIT 1")
        return 0 if row is None else int(row[0])

    def files(
        self,
        *,
        mapping: str | None = None,
        destination: str | None = None,
        path: str | None = None,
        attempt: int | None = None,
        since: float = 0.0,
        limit: int = 1000,
    ) -> tuple[FileLine, ...]:
        """The newest `limit` lines, oldest first. `path`: the file, or everything below the directory."""
        found: list[FileLine] = []
        for row in self._pages(mapping, destination, path, attempt, since):
            found += [line for line in reversed(_lines(row)) if path is None or _about(line.file, path)]
            if len(found) >= limit:
                break
        return tuple(reversed(found[:limit]))

    def _pages(
        self,
        mapping: str | None,
        destination: str | None,
        path: str | None,
        attempt: int | None,
        since: float,
    ) -> Iterator[Row]:
        """Newest first, one at a time: a page is only unpacked when it may hold what is looked for."""
        conditions, values = ["seq<?", "at>=?"], [since]
        for column, value in (("mapping", mapping), ("destination", destination), ("attempt", attempt)):
            if value is not None:
                conditions.append(f"{column}=?")
                values.append(value)  # type: ignore[arg-type]
        if path is not None:
            raw = os.fsencode(path.rstrip("/") or "/")
            conditions.append("high>=? AND low<?")
            values += [raw, (b"0" if raw == b"/" else raw + b"0")]  # type: ignore[list-item]
        before = 1 << 62
        while True:
            row = self._db.row(
                f"SELECT {_PAGES} FROM audit_files WHERE {' AND '.join(conditions)}"  # noqa: S608
                " ORDER BY seq DESC LIMIT 1",
                (before, *values),
            )
            if row is None:
                return
            before = int(row[0])
            yield row


def attempt_ended(db: Database, number: int, outcome: str, error: str, now: float) -> None:
    """The act of an attempt that is closed, in the transaction that closes it; before its row is gone."""
    row = db.row(
        "SELECT mapping, destination, operation, revision, created_at, files, bytes FROM attempts"
        " WHERE number=?",
        (number,),
    )
    if row is None:
        return
    mapping, destination, operation, revision, created_at, planned, size = row
    done = db.row(
        "SELECT count(*), coalesce(sum(files), 0), coalesce(sum(failed), 0), coalesce(sum(bytes), 0)"
        " FROM audit_files WHERE attempt=?",
        (number,),
    )
    pages, files, failed, moved = done or (0, 0, 0, 0)
    if not pages and outcome in ("complete", "done"):  # nothing was told about single files
        files, moved = planned, size
    action = {"transfer": "deliver"}.get(operation, str(operation))
    _insert(
        db,
        Act(
            at=now,
            key=f"Mapping/{mapping}",
            action="cancel" if outcome == "cancelled" else action,
            revision=revision,
            destination=destination,
            attempt=number,
            files=files,
            failed=failed,
            bytes=moved,
            duration=max(0.0, now - created_at),
            outcome=outcome,
            error="" if outcome == "cancelled" else error,
            reason=error if outcome == "cancelled" else "",
        ),
    )


def _insert(db: Database, act: Act) -> int:
    names = (act.at, act.key, act.action, act.revision, act.destination, act.attempt)
    numbers = (act.files, act.failed, act.bytes, act.duration, act.outcome)
    words = (_ascii(act.who), _ascii(act.reason), _ascii(act.error), act.request)
    return db.insert(
        f"INSERT INTO audit({_ACT}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,NULL)", (*names, *numbers, *words)
    )


def _pack(files: Iterable[FileAct]) -> bytes:
    rows: list[list[Any]] = []
    for file in files:
        row: list[Any] = list(file)
        while row[-1] == "":
            row.pop()
        rows.append(row)
    return zlib.compress(json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode("ascii"), 1)


def _lines(row: Row) -> list[FileLine]:
    seq, at, mapping, destination, attempt, revision, content = row
    files = (FileAct(*file) for file in json.loads(zlib.decompress(content)))
    return [FileLine(seq, at, mapping, destination, attempt, revision, file) for file in files]


def _about(file: FileAct, path: str) -> bool:
    base = path.rstrip("/")
    return any(name == path or name.startswith(base + "/") for name in (file.path, file.detail) if name)


def _ascii(text: str) -> str:
    """SQLite text cannot hold bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
