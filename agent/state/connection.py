"""The one SQLite connection of the agent: a lock, transactions that nest, errors in the agent's words.

Transactions are short and never span I/O elsewhere; iterators over many rows read page by page, so that
no reader holds the lock while its caller works.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import quote

from agent.model.outcome import LaneSyncError, PermanentError, RetryableError

Row = tuple[Any, ...]

_PASSING = ("locked", "busy", "full", "disk i/o", "unable to open", "readonly", "interrupted")


_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DamagedError(PermanentError):
    """The file is no longer what was written into it."""


class Database:
    """Thread-safe access to one SQLite file. PermanentError: damaged; RetryableError: full or busy."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._closed = False
        with self._translated():
            self._db = sqlite3.connect(
                f"file:{quote(os.fsencode(path))}?mode=ro" if read_only else path,
                uri=read_only,
                isolation_level=None,
                check_same_thread=False,
                timeout=10.0,
                cached_statements=512,
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: sqlite3.Error) -> Exception:
        if isinstance(error, sqlite3.ProgrammingError):
            return PermanentError(f"{self.path} is closed") if self._closed else error
        return translate(self.path, error) if isinstance(error, sqlite3.DatabaseError) else error

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing, also over several stores. Inside another transaction it joins that one.

        What is committed survives a crash of the process, with `durable` also a power cut.
        """
        with self._lock, self._translated():
            if self._depth == 0:
                # NORMAL leaves the newest commits of the write-ahead log to the kernel, FULL syncs them.
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0 and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """While it is held no other thread's statement comes in between; the same lock as a transaction's."""
        return self._lock

    @property
    def in_transaction(self) -> bool:
        """True for the thread that is inside `transaction()`."""
        with self._lock:
            return self._depth > 0

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; the number of rows it changed."""
        with self._lock, self._translated():
            return self._db.execute(sql, values).rowcount

    def insert(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one INSERT; the rowid it made."""
        with self._lock, self._translated():
            return self._db.execute(sql, values).lastrowid or 0

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        with self._lock, self._translated():
            return self._db.executemany(sql, rows).rowcount

    def row(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        with self._lock:
            try:
                found: Row | None = self._db.execute(sql, values).fetchone()
            except sqlite3.Error as error:
                raise self._translate(error) from error
            return found

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows; for queries whose result is bounded."""
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise self._translate(error) from error

    def script(self, sql: str) -> None:
        with self._lock, self._translated():
            self._db.executescript(sql)

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()


def translate(path: str, error: sqlite3.DatabaseError) -> LaneSyncError:
    """What a database error means: passing (full, busy), or damage that needs a person."""
    text = str(error).lower()
    if isinstance(error, sqlite3.OperationalError) and any(word in text for word in _PASSING):
        return RetryableError(f"the agent's state {path} cannot be written or read now: {error}")
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return (DamagedError if code & 0xFF in _DAMAGE else PermanentError)(
        f"the agent's state {path} is damaged ({error}). Nothing was overwritten. Restart the agent: it keeps"
        f" the file aside and takes over what the destinations have; or restore a backup first"
    )
