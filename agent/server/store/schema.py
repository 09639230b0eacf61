"""Tables of `server.db`, and opening it.

Paths are BLOBs (file names are bytes). Times are microseconds since 1970. `manifest_files`,
`transfer_results` and `transfer_errors` are read by the sender worker as well.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent.server.errors import StartError

SCHEMA_VERSION = 1
DATABASE_NAME = "server.db"

_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE objects(id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL);
CREATE TABLE user_data(object_id INTEGER NOT NULL, key TEXT NOT NULL, value TEXT,
  PRIMARY KEY(object_id, key)) WITHOUT ROWID;
CREATE TABLE connections(id INTEGER PRIMARY KEY, address TEXT NOT NULL, port INTEGER NOT NULL, ip TEXT,
  rate_min REAL, rate_max REAL, rate REAL, rate_control INTEGER NOT NULL DEFAULT 1,
  rate_method INTEGER NOT NULL DEFAULT 0, UNIQUE(address, port));
CREATE TABLE destinations(id INTEGER PRIMARY KEY, connection_id INTEGER NOT NULL, address TEXT NOT NULL,
  port INTEGER NOT NULL, ip TEXT, sender_port INTEGER NOT NULL, permanent INTEGER NOT NULL, rate_max REAL,
  lanes TEXT NOT NULL, defaults TEXT NOT NULL, owner TEXT NOT NULL, created_us INTEGER NOT NULL);
CREATE TABLE manifests(id INTEGER PRIMARY KEY, status TEXT NOT NULL, total_files INTEGER, total_size INTEGER,
  error TEXT, owner TEXT NOT NULL, created_us INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE manifest_files(manifest_id INTEGER NOT NULL, seq INTEGER NOT NULL, dest BLOB NOT NULL,
  src BLOB NOT NULL, kind INTEGER NOT NULL, size INTEGER NOT NULL, executable INTEGER NOT NULL,
  mtime_us INTEGER, PRIMARY KEY(manifest_id, seq)) WITHOUT ROWID;
CREATE TABLE transfers(id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, destination_id INTEGER NOT NULL,
  manifest_id INTEGER NOT NULL, status TEXT NOT NULL, owner TEXT NOT NULL, destination_path BLOB NOT NULL,
  lane TEXT NOT NULL, priority INTEGER NOT NULL, rate_max REAL, flags INTEGER NOT NULL,
  overwrite INTEGER NOT NULL, checkpoint_seconds INTEGER NOT NULL, time_resolution_us INTEGER NOT NULL,
  timeout_seconds REAL NOT NULL, total_files INTEGER NOT NULL, total_size INTEGER NOT NULL,
  request_us INTEGER NOT NULL, request_clock_us INTEGER NOT NULL, queue_us INTEGER, start_us INTEGER,
  end_us INTEGER, error TEXT NOT NULL DEFAULT '', bytes_sent INTEGER NOT NULL DEFAULT 0,
  bytes_done INTEGER NOT NULL DEFAULT 0, files_done INTEGER NOT NULL DEFAULT 0,
  next_batch INTEGER NOT NULL DEFAULT 0);
CREATE INDEX transfers_by_destination ON transfers(destination_id);
CREATE INDEX transfers_by_manifest ON transfers(manifest_id);
CREATE INDEX transfers_active ON transfers(status) WHERE status IN ('pending', 'sending', 'resuming');
CREATE TABLE transfer_results(transfer_id INTEGER NOT NULL, batch INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY(transfer_id, batch)) WITHOUT ROWID;
CREATE TABLE transfer_errors(transfer_id INTEGER NOT NULL, seq INTEGER NOT NULL, message TEXT NOT NULL,
  PRIMARY KEY(transfer_id, seq)) WITHOUT ROWID;
CREATE TABLE requests(id INTEGER PRIMARY KEY AUTOINCREMENT, method TEXT NOT NULL, owner TEXT NOT NULL,
  status TEXT NOT NULL, error TEXT, result TEXT, created_us INTEGER NOT NULL, ended_us INTEGER);
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open or create. The only writer's connection, to be used by one thread (any thread may open it).
    StartError when the file is damaged or was written by a newer version."""
    try:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    except sqlite3.OperationalError as error:
        raise StartError(f"{path} cannot be opened: {error}; see to the disk and its permissions") from error
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        connection.execute("PRAGMA cache_size=-8192")
        _prepare(connection, path)
    except sqlite3.OperationalError as error:
        connection.close()
        raise StartError(f"{path} cannot be used: {error}; see to the disk and its permissions") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StartError(
            f"{path} is damaged ({error}); restore it from a backup, or move it (with its -wal and -shm "
            "files) out of the way to start empty: unfinished transfers are then forgotten"
        ) from error
    except StartError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        connection.execute("SELECT count(*) FROM objects").fetchone()
        return
    if version > SCHEMA_VERSION:
        raise StartError(
            f"{path} was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION}); "
            "start that version, or choose another --state-dir"
        )
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        raise StartError(f"{path} is not a database of this program; choose another --state-dir")
    connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
