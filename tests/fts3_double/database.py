"""The service's tables in SQLite: jobs, files, retries, bans, credentials, configuration, archive."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

JOB_FIELDS = (
    "job_id source_se dest_se job_state job_type cancel_job submit_host user_dn cred_id vo_name reason"
    " submit_time priority max_time_in_queue destination_spacetoken internal_job_params dst_file_report"
    " overwrite_flag job_finished source_spacetoken copy_pin_lifetime verify_checksum bring_online"
    " archive_timeout target_qos job_metadata retry retry_delay os_project_id"
).split()
FILE_FIELDS = (
    "file_id hashed_id file_index job_id dest_surl_uuid vo_name source_se dest_se priority file_state"
    " transfer_host source_surl dest_surl staging_host reason recoverable filesize checksum finish_time"
    " start_time archive_start_time archive_finish_time internal_file_params pid tx_duration throughput"
    " retry user_filesize file_metadata staging_metadata archive_metadata staging_start staging_finished"
    " selection_strategy bringonline_token log_file log_debug activity scitag src_token_id dst_token_id"
    " file_state_initial"
).split()
JSON_FIELDS = frozenset({"job_metadata", "file_metadata", "staging_metadata", "archive_metadata"})
FLAG_FIELDS = frozenset({"cancel_job", "dst_file_report", "recoverable"})
FIRST_FILE_ID = 8_872_390_430  # beyond 32 bits, like the real one's

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs(
  {", ".join(JOB_FIELDS[1:])}, job_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files(
  file_id INTEGER PRIMARY KEY AUTOINCREMENT, {", ".join(FILE_FIELDS[1:])}, retry_at REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs(max_time_in_queue)
  WHERE job_finished IS NULL AND max_time_in_queue IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_open ON jobs(vo_name) WHERE job_finished IS NULL;
CREATE INDEX IF NOT EXISTS jobs_over ON jobs(job_finished) WHERE job_finished IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_of_job ON files(job_id, file_state);
CREATE INDEX IF NOT EXISTS files_waiting ON files(source_se, dest_se, vo_name, priority)
  WHERE file_state = 'SUBMITTED';
CREATE INDEX IF NOT EXISTS files_forced ON files(file_id) WHERE file_state = 'FORCE_START';
CREATE INDEX IF NOT EXISTS files_staging ON files(file_id) WHERE file_state = 'STAGING';
CREATE INDEX IF NOT EXISTS files_token_prep ON files(file_id) WHERE file_state = 'TOKEN_PREP';
CREATE TABLE IF NOT EXISTS links(
  source_se TEXT, dest_se TEXT, vo_name TEXT, PRIMARY KEY(source_se, dest_se, vo_name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retries(
  file_id INTEGER, attempt INTEGER, datetime TEXT, reason TEXT, transfer_host TEXT, log_file TEXT,
  PRIMARY KEY(file_id, attempt));
CREATE TABLE IF NOT EXISTS banned_se(
  se TEXT PRIMARY KEY, vo TEXT, status TEXT, message TEXT, addition_time TEXT, admin_dn TEXT);
CREATE TABLE IF NOT EXISTS banned_dn(
  dn TEXT PRIMARY KEY, message TEXT, addition_time TEXT, admin_dn TEXT);
CREATE TABLE IF NOT EXISTS requested(
  dlg_id TEXT, dn TEXT, request TEXT, key TEXT, PRIMARY KEY(dlg_id, dn));
CREATE TABLE IF NOT EXISTS credentials(
  dlg_id TEXT, dn TEXT, proxy TEXT, termination REAL, voms_attrs TEXT, PRIMARY KEY(dlg_id, dn));
CREATE TABLE IF NOT EXISTS tokens(token_id TEXT PRIMARY KEY, token TEXT);
CREATE TABLE IF NOT EXISTS config(kind TEXT, name TEXT, document TEXT, PRIMARY KEY(kind, name));
CREATE TABLE IF NOT EXISTS audit(seq INTEGER PRIMARY KEY, datetime TEXT, dn TEXT, config TEXT, action TEXT);
CREATE TABLE IF NOT EXISTS archive(job_id TEXT PRIMARY KEY, document TEXT);
"""


class Database:
    """One connection behind one lock. Nothing is synced: the state survives the process, not the machine."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(SCHEMA)
        self._connection.execute(
            "INSERT INTO sqlite_sequence(name, seq) SELECT 'files', ?"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'files')",
            (FIRST_FILE_ID - 1,),
        )

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(sql, tuple(parameters)).fetchall()

    def row(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Row | None:
        with self._lock:
            row: sqlite3.Row | None = self._connection.execute(sql, tuple(parameters)).fetchone()
            return row

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction; nested ones are part of the outermost."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def job(self, job_id: str) -> dict[str, Any] | None:
        row = self.row("SELECT * FROM jobs WHERE job_id = ?", (job_id,))
        return None if row is None else as_job(row)

    def document(self, kind: str, name: str) -> Any:
        """A configuration entry, None when there is none."""
        row = self.row("SELECT document FROM config WHERE kind = ? AND name = ?", (kind, name))
        return None if row is None else json.loads(row["document"])

    def documents(self, kind: str) -> dict[str, Any]:
        rows = self.rows("SELECT name, document FROM config WHERE kind = ? ORDER BY name", (kind,))
        return {row["name"]: json.loads(row["document"]) for row in rows}

    def put_document(self, kind: str, name: str, document: Any) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO config VALUES(?, ?, ?)", (kind, name, json.dumps(document)))

    def drop_document(self, kind: str, name: str) -> bool:
        with self.transaction() as db:
            return db.execute("DELETE FROM config WHERE kind = ? AND name = ?", (kind, name)).rowcount > 0

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def value_out(name: str, value: Any) -> Any:
    """A column as the API shows it."""
    if value is None:
        return None
    if name in JSON_FIELDS:
        return json.loads(value)
    return bool(value) if name in FLAG_FIELDS else value


def as_job(row: sqlite3.Row) -> dict[str, Any]:
    job = {name: value_out(name, row[name]) for name in JOB_FIELDS}
    job["cancel_job"] = bool(job["cancel_job"])
    return job


def as_file(row: sqlite3.Row, fields: Iterable[str] = FILE_FIELDS) -> dict[str, Any]:
    return {name: value_out(name, row[name]) for name in fields}


def insert_many(db: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows that all have the same keys; JSON columns are encoded here."""
    names = list(rows[0])
    encoded = [name in JSON_FIELDS for name in names]
    marks = ", ".join("?" * len(names))
    db.executemany(
        f"INSERT INTO {table}({', '.join(names)}) VALUES({marks})",
        (
            [
                json.dumps(value) if encode and value is not None else value
                for encode, value in zip(encoded, row.values(), strict=True)
            ]
            for row in rows
        ),
    )
