"""The tables of the adapter's store."""

from __future__ import annotations

VERSION = 1

# Paths are blobs: names are bytes, not always UTF-8.
SCHEMA = """
CREATE TABLE destinations(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE, url TEXT NOT NULL, rate REAL, tag TEXT NOT NULL, lanes TEXT NOT NULL,
  defaults TEXT NOT NULL, held INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE transfers(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE, destination INTEGER NOT NULL, tag TEXT NOT NULL, lane TEXT NOT NULL,
  priority INTEGER NOT NULL, rate REAL, overwrite INTEGER NOT NULL, timeout REAL NOT NULL,
  total_files INTEGER NOT NULL, total_bytes INTEGER NOT NULL,
  settled INTEGER NOT NULL DEFAULT 0, done_files INTEGER NOT NULL DEFAULT 0,
  done_bytes INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
  jobs INTEGER NOT NULL DEFAULT 0, suspended INTEGER NOT NULL DEFAULT 0,
  removed INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX transfers_of ON transfers(destination);
CREATE TABLE links(
  number INTEGER PRIMARY KEY, source_se TEXT NOT NULL, dest_se TEXT NOT NULL,
  UNIQUE(source_se, dest_se)) STRICT;
-- What waits, by link and transfer: as many as the files say, so that nobody has to count them.
CREATE TABLE queues(
  link INTEGER NOT NULL, transfer INTEGER NOT NULL, waiting INTEGER NOT NULL,
  due REAL NOT NULL DEFAULT 0, PRIMARY KEY(link, transfer)) STRICT, WITHOUT ROWID;
-- state: 0 waits, 1 is under way, 2 is settled.
CREATE TABLE files(
  transfer INTEGER NOT NULL, number INTEGER NOT NULL, destination INTEGER NOT NULL, link INTEGER NOT NULL,
  path BLOB NOT NULL, source BLOB NOT NULL, size INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0,
  due REAL NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, lost_since REAL,
  job INTEGER, place INTEGER, mtime_ns INTEGER NOT NULL DEFAULT 0, ctime_ns INTEGER NOT NULL DEFAULT 0,
  running_since REAL, seq INTEGER, outcome TEXT, error TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(transfer, number)) STRICT, WITHOUT ROWID;
CREATE INDEX files_waiting ON files(link, transfer, number) WHERE state = 0;
CREATE INDEX files_under_way ON files(destination, path) WHERE state = 1;
CREATE INDEX files_of_job ON files(job) WHERE state = 1;
CREATE INDEX files_settled ON files(transfer, seq) WHERE state = 2;
-- state: prepared (about to be submitted), submitted, cancel (asked for), ending (cancelled; copies may run).
CREATE TABLE jobs(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL DEFAULT '', sid TEXT NOT NULL UNIQUE, transfer INTEGER NOT NULL, link INTEGER NOT NULL,
  priority INTEGER NOT NULL, state TEXT NOT NULL, since REAL NOT NULL, files INTEGER NOT NULL,
  under_way INTEGER NOT NULL) STRICT;
CREATE INDEX jobs_of_transfer ON jobs(transfer);
CREATE INDEX jobs_by_state ON jobs(state, link);
CREATE TABLE deletions(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, destination INTEGER NOT NULL,
  under_way INTEGER NOT NULL, ended REAL) STRICT;
CREATE TABLE deleted(
  deletion INTEGER NOT NULL, number INTEGER NOT NULL, path BLOB NOT NULL, is_directory INTEGER NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0, outcome TEXT, error TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(deletion, number)) STRICT, WITHOUT ROWID;
"""
