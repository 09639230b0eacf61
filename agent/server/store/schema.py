"""Tables of `server.db`, opening it, and bringing one of an earlier version up to date.

Paths are BLOBs (file names are bytes). Times are microseconds since 1970. `manifest_files`,
`transfer_results` and `transfer_errors` are read by the sender worker as well.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent.server.errors import StartError

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

_ACCESS = """
ALTER TABLE connections RENAME TO old_connections;
CREATE TABLE connections(id INTEGER PRIMARY KEY, address TEXT NOT NULL, port INTEGER NOT NULL, ip TEXT,
  rate_min REAL, rate_max REAL, rate REAL, rate_control INTEGER NOT NULL DEFAULT 1,
  rate_method INTEGER NOT NULL DEFAULT 0, relay_address TEXT NOT NULL DEFAULT '',
  relay_port INTEGER NOT NULL DEFAULT 0, UNIQUE(address, port, relay_address, relay_port));
INSERT INTO connections(id, address, port, ip, rate_min, rate_max, rate, rate_control, rate_method)
  SELECT id, address, port, ip, rate_min, rate_max, rate, rate_control, rate_method FROM old_connections;
DROP TABLE old_connections;
ALTER TABLE destinations ADD COLUMN public_key TEXT;
ALTER TABLE destinations ADD COLUMN authenticate INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN relay_address TEXT NOT NULL DEFAULT '';
ALTER TABLE destinations ADD COLUMN relay_port INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN owner_token TEXT;
ALTER TABLE destinations ADD COLUMN owner_session TEXT;
ALTER TABLE manifests ADD COLUMN owner_token TEXT;
ALTER TABLE manifests ADD COLUMN owner_session TEXT;
ALTER TABLE manifests ADD COLUMN roots TEXT;
ALTER TABLE transfers ADD COLUMN user_name TEXT;
ALTER TABLE transfers ADD COLUMN password TEXT;
ALTER TABLE transfers ADD COLUMN token TEXT;
ALTER TABLE transfers ADD COLUMN min_cipher INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN transfer_log INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN owner_token TEXT;
ALTER TABLE transfers ADD COLUMN owner_session TEXT;
ALTER TABLE transfers ADD COLUMN packets_sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN packets_recv INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN bytes_recv INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN blocks_resent INTEGER NOT NULL DEFAULT 0;
CREATE TABLE tokens(id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, digest BLOB NOT NULL UNIQUE,
  kind TEXT NOT NULL, password_hash TEXT, permissions INTEGER NOT NULL, description TEXT NOT NULL,
  created_us INTEGER NOT NULL, expires_us INTEGER, download_count INTEGER NOT NULL DEFAULT 0,
  download_limit INTEGER, manifest_id INTEGER, path BLOB, owner TEXT NOT NULL, owner_token TEXT,
  owner_session TEXT);
CREATE INDEX tokens_by_manifest ON tokens(manifest_id);
ALTER TABLE requests ADD COLUMN owner_token TEXT;
CREATE TABLE sandboxes(user TEXT NOT NULL, name TEXT NOT NULL, mapping TEXT NOT NULL,
  PRIMARY KEY(user, name)) WITHOUT ROWID;
CREATE TABLE authorized_clients(public_key TEXT PRIMARY KEY, added_us INTEGER NOT NULL) WITHOUT ROWID;
"""

_DELTA = """
ALTER TABLE transfers ADD COLUMN bytes_matched INTEGER NOT NULL DEFAULT 0;
"""

_STEPS = (_TABLES, _ACCESS, _DELTA)
"""What makes each version out of the one before; an empty database is version 0."""

SCHEMA_VERSION = len(_STEPS)


def open_database(path: Path) -> sqlite3.Connection:
    """Open or create. The only writer's connection, to be used by one thread (any thread may open it).
    StartError when the file is damaged or was written by a newer version."""
    _look(path)
    try:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    except sqlite3.OperationalError as error:
        raise StartError(f"{path} cannot be opened: {error}; see to the disk and its permissions") from error
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        connection.execute("PRAGMA cache_size=-8192")
        connection.execute("PRAGMA secure_delete=ON")  # what is overwritten may be a secret
        _prepare(connection, path)
    except sqlite3.OperationalError as error:
        connection.close()
        raise StartError(f"{path} cannot be used: {error}; see to the disk and its permissions") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _damaged(path, error) from error
    except StartError:
        connection.close()
        raise
    return connection


def _look(path: Path) -> None:
    """StartError when this is nothing to write to. Read only, so that what is not ours keeps every byte: a
    connection that may write changes the file's header, or brings a crash's log into it, at once."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
    except sqlite3.OperationalError:
        return  # told when it is opened for good
    try:
        _version(connection, path)
    except sqlite3.OperationalError:
        return
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error
    finally:
        connection.close()


def _damaged(path: Path, error: sqlite3.DatabaseError) -> StartError:
    return StartError(
        f"{path} is damaged ({error}); restore it from a backup, or move it (with its -wal and -shm "
        "files) out of the way to start empty: unfinished transfers are then forgotten"
    )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Of a database that this program can use; 0 of an empty one. StartError for others."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        connection.execute("SELECT count(*) FROM objects").fetchone()
        return SCHEMA_VERSION
    if version > SCHEMA_VERSION:
        raise StartError(
            f"{path} was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION}); "
            "start that version, or choose another --state-dir"
        )
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        raise StartError(f"{path} is not a database of this program; choose another --state-dir")
    return int(version)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection, path)
    if version == SCHEMA_VERSION:
        return
    steps = "".join(_STEPS[version:])
    connection.executescript(f"BEGIN; {steps} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
