PRAGMA application_id=1280524615;
PRAGMA user_version=1;
BEGIN;
CREATE TABLE applied_specs(key TEXT PRIMARY KEY, spec TEXT NOT NULL, digest TEXT NOT NULL,
  revision TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "applied_specs" VALUES('Destination/archive','{"address": "host", "lanes": null, "name": "archive", "on_remove": "orphan", "port": 8886, "send_rate_max": null, "server": "embedded", "suspend": false, "transfer_defaults": {"checkpoint_interval": 30.0, "lane": null, "modification_time_tolerance": 0.0, "overwrite": "always", "priority": 100, "timeout": 0.0}}','6cc2aa3fb89892be','r1',106.0);
INSERT INTO "applied_specs" VALUES('Mapping/dailies','{"deletions": {"max_count": 1000, "max_percent": 0.1}, "destination_path": "/", "destinations": ["archive"], "labels": [], "lane": null, "name": "dailies", "on_remove": "orphan", "overwrite": null, "paths": [{"destination": "/in", "exclude": [], "include": [], "source": "/src"}], "preserve_executable": true, "preserve_mtime": true, "priority": null, "prune": false, "retry": {"interval": 5.0, "max_interval": 600.0}, "send_rate_max": null, "suspend": false, "symlinks": "copyContents", "trigger": {"interval": 600.0, "max_wait": 600.0, "ready": "closed", "settle": 0.2, "watch": true}}','00d8b9e817049cca','r1',106.0);
CREATE TABLE approvals(key TEXT NOT NULL, digest TEXT NOT NULL, who TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY(key, digest)) WITHOUT ROWID;
INSERT INTO "approvals" VALUES('Mapping/dailies','abcd','anna',104.0);
CREATE TABLE attempt_history(number INTEGER PRIMARY KEY, mapping TEXT NOT NULL, destination TEXT NOT NULL,
  operation TEXT NOT NULL, revision TEXT NOT NULL, created_at REAL NOT NULL, finished_at REAL NOT NULL,
  transfer_id TEXT, files INTEGER NOT NULL, bytes INTEGER NOT NULL, outcome TEXT NOT NULL,
  error TEXT NOT NULL);
INSERT INTO "attempt_history" VALUES(2,'dailies','archive','delete','r1',102.0,103.0,NULL,1,0,'done','');
CREATE TABLE attempts(number INTEGER PRIMARY KEY, mapping TEXT NOT NULL, destination TEXT NOT NULL,
  operation TEXT NOT NULL, change_digest TEXT NOT NULL, revision TEXT NOT NULL, created_at REAL NOT NULL,
  transfer_id TEXT, manifest_id TEXT, cursor INTEGER NOT NULL DEFAULT 0,
  files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
INSERT INTO "attempts" VALUES(1,'dailies','archive','transfer','digest','r1',101.0,'77','66',0,2,15);
CREATE TABLE deliveries(id INTEGER PRIMARY KEY, mapping TEXT NOT NULL, destination TEXT NOT NULL,
  UNIQUE(mapping, destination));
INSERT INTO "deliveries" VALUES(1,'dailies','archive');
CREATE TABLE directories(id INTEGER PRIMARY KEY, delivery INTEGER NOT NULL, path BLOB NOT NULL,
  files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, digest BLOB, UNIQUE(delivery, path));
INSERT INTO "directories" VALUES(1,1,X'2F696E',2,13,X'30313233343536373839616263646566');
INSERT INTO "directories" VALUES(2,1,X'2F696E2F737562',1,21,NULL);
CREATE TABLE events(seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, key TEXT NOT NULL,
  type TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, revision TEXT NOT NULL,
  fields TEXT NOT NULL);
INSERT INTO "events" VALUES(1,108.0,'Mapping/dailies','Normal','InSync','all there','r1','{"n": 1}');
CREATE TABLE failures(mapping TEXT NOT NULL, destination TEXT NOT NULL, revision TEXT NOT NULL,
  consecutive INTEGER NOT NULL, next_retry_at REAL NOT NULL, last_error TEXT NOT NULL,
  PRIMARY KEY(mapping, destination)) WITHOUT ROWID;
INSERT INTO "failures" VALUES('dailies','archive','r1',2,150.0,'disk full');
CREATE TABLE in_flight(mapping TEXT NOT NULL, destination TEXT NOT NULL, parent BLOB NOT NULL,
  name BLOB NOT NULL, attempt INTEGER NOT NULL, source BLOB NOT NULL, kind INTEGER, size INTEGER,
  mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, executable INTEGER,
  PRIMARY KEY(mapping, destination, parent, name, attempt)) WITHOUT ROWID;
INSERT INTO "in_flight" VALUES('dailies','archive',X'2F696E',X'632E6D6F76',1,X'2F7372632F632E6D6F76',0,7,1000000007,2000000007,47,1);
INSERT INTO "in_flight" VALUES('dailies','archive',X'2F696E',X'642E6D6F76',1,X'2F7372632F642E6D6F76',0,8,1000000008,2000000008,48,0);
CREATE TABLE ledger(directory INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
  executable INTEGER NOT NULL, digest TEXT NOT NULL, attempt INTEGER NOT NULL, delivered_at REAL NOT NULL,
  PRIMARY KEY(directory, name)) WITHOUT ROWID;
INSERT INTO "ledger" VALUES(1,X'612E6D6F76',0,10,1000000010,2000000010,50,0,'aa11',1,100.5);
INSERT INTO "ledger" VALUES(1,X'FF',0,3,1000000003,2000000003,43,1,'',1,100.5);
INSERT INTO "ledger" VALUES(2,X'622E6D6F76',0,21,1000000021,2000000021,61,1,'',1,100.5);
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('agent_id','0123456789abcdef');
INSERT INTO "meta" VALUES('next_attempt','1001');
CREATE TABLE overrides(key TEXT PRIMARY KEY, reason TEXT NOT NULL, author TEXT NOT NULL, at REAL NOT NULL,
  until REAL) WITHOUT ROWID;
INSERT INTO "overrides" VALUES('Mapping/dailies','maintenance','anna',105.0,NULL);
CREATE TABLE roots(mapping TEXT NOT NULL, source BLOB NOT NULL, device TEXT NOT NULL, inode TEXT NOT NULL,
  PRIMARY KEY(mapping, source)) WITHOUT ROWID;
INSERT INTO "roots" VALUES('dailies',X'2F737263','2049','12');
CREATE TABLE status(key TEXT PRIMARY KEY, document TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "status" VALUES('Mapping/dailies','{"ready": true}',107.0);
CREATE TRIGGER ledger_added AFTER INSERT ON ledger BEGIN
  UPDATE directories SET files = files + 1, bytes = bytes + new.size, digest = NULL WHERE id = new.directory;
END;
CREATE TRIGGER ledger_changed AFTER UPDATE ON ledger BEGIN
  UPDATE directories SET bytes = bytes - old.size + new.size, digest = NULL WHERE id = new.directory;
END;
CREATE TRIGGER ledger_removed AFTER DELETE ON ledger BEGIN
  UPDATE directories SET files = files - 1, bytes = bytes - old.size, digest = NULL WHERE id = old.directory;
END;
CREATE INDEX in_flight_attempt ON in_flight(attempt);
CREATE INDEX events_key ON events(key, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',1);
COMMIT;
