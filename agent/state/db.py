"""The agent's memory: one SQLite file, `agent.db`, and the stores that share it."""

from __future__ import annotations

import os
import secrets
from contextlib import AbstractContextManager

from agent.model.outcome import PermanentError
from agent.state import (
    alerts,
    approvals,
    attempts,
    audit,
    events,
    hooks,
    ledger,
    looks,
    ordered,
    overrides,
    receipts,
    released,
    roots,
    shares,
    small,
    specs,
    status,
    tombstones,
    turns,
    uncertain,
)
from agent.state.connection import DamagedError, Database
from agent.state.steps import SCHEMA_VERSION, bring_up_to_date

DATABASE_NAME = "agent.db"
_WAITING = (
    ("tombstones", "since"),
    ("uncertain", "since"),
    ("failures", "next_retry_at"),
    ("hook_calls", "next_at"),
    ("alert_messages", "next_at"),
)
_APPLICATION_ID = 0x4C534147  # "LSAG"


class State:
    """Every store of the agent. Thread-safe; writers of other processes are kept out by StateLock."""

    def __init__(self, db: Database, agent_id: str) -> None:
        self._db = db
        self.agent_id = agent_id
        self.ledger = ledger.Ledger(db)
        self.attempts = attempts.Attempts(db)
        self.roots = roots.Roots(db)
        self.approvals = approvals.Approvals(db)
        self.overrides = overrides.Overrides(db)
        self.specs = specs.AppliedSpecs(db)
        self.status = status.StatusStore(db)
        self.events = events.Events(db)
        self.hooks = hooks.Hooks(db)
        self.turns = turns.Turns(db)
        self.alerts = alerts.Alerts(db)
        self.shares = shares.Shares(db)
        self.receipts = receipts.Receipts(db)
        self.tombstones = tombstones.Tombstones(db)
        self.audit = audit.Audit(db)
        self.looks = looks.Looks(db)
        self.ordered = ordered.Ordered(db)
        self.released = released.Released(db)
        self.small = small.SmallDeliveries(db)
        self.uncertain = uncertain.Uncertainties(db)

    @property
    def path(self) -> str:
        return self._db.path

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """All or nothing over several stores, for example settle + record + finish. Keep it short. `durable`:
        on storage when it returns."""
        return self._db.transaction(durable=durable)

    def clock_was_set(self, seconds: float) -> None:
        """Move all that waits for a length of time: it goes on waiting for what is left of it."""
        with self._db.transaction():
            for table, column in _WAITING:
                self._db.execute(f"UPDATE {table} SET {column}={column}+?", (seconds,))  # noqa: S608

    def check(self) -> None:
        """Read the whole file. DamagedError when it is not what was written."""
        row = self._db.row("PRAGMA quick_check(1)")
        if row is None or row[0] != "ok":
            found = "" if row is None else str(row[0]).replace("\n", " ")
            raise DamagedError(f"the agent's state {self.path} is damaged") from ValueError(found)

    def continue_as(self, agent_id: str, next_attempt: int) -> None:
        """In the place of a state that was lost. Before anything is attempted."""
        with self._db.transaction(durable=True):
            self._db.execute("UPDATE meta SET value=? WHERE key='agent_id'", (agent_id,))
            self._db.execute("INSERT OR REPLACE INTO meta VALUES('next_attempt', ?)", (str(next_attempt),))
        self.agent_id = agent_id

    def close(self) -> None:
        self._db.close()


def open_state(state_dir: str) -> State:
    """Open or make STATE/agent.db. PermanentError when it is damaged, foreign, or of a newer version;
    such a file is left as it is."""
    path = os.path.join(state_dir, DATABASE_NAME)
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise PermanentError(
            f"cannot use the agent's state {path}: {error.strerror}; make it writable for this user"
        ) from error
    version = _version(path)
    db = Database(path)
    try:
        return State(db, _prepare(db, version))
    except BaseException:
        db.close()
        raise


def _prepare(db: Database, version: int) -> str:
    """Create or complete the tables; the agent's id."""
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA journal_size_limit=67108864")
    db.execute("PRAGMA cache_size=-16000")
    db.execute("PRAGMA temp_store=MEMORY")
    if version == 0:
        _create(db)
    else:
        bring_up_to_date(db, version)
    db.execute("PRAGMA synchronous=NORMAL")
    return _read(db)


def _version(path: str) -> int:
    """0 = a new file. PermanentError for one that is foreign or newer. Who only reads does not even tidy up
    the log that a killed process left: nothing of such a file is changed."""
    db = Database(path, read_only=True)
    try:
        version, application = _pragma(db, "user_version"), _pragma(db, "application_id")
        empty = db.row("SELECT 1 FROM sqlite_master LIMIT 1") is None
    finally:
        db.close()
    if version > SCHEMA_VERSION and application == _APPLICATION_ID:
        raise PermanentError(
            f"the agent's state {path} was written by a newer version of lanesync (format {version}, this "
            f"one reads {SCHEMA_VERSION}); run that version, or name another directory with --state-dir"
        )
    if application == _APPLICATION_ID and version > 0:
        return version
    if not empty:
        raise PermanentError(
            f"{path} is not an agent's state; it was left as it is; name another --state-dir"
        )
    return 0


def _create(db: Database) -> None:
    with db.transaction(durable=True):
        bring_up_to_date(db, 0)
        db.execute("INSERT INTO meta VALUES('agent_id', ?)", (secrets.token_hex(8),))
        db.execute(f"PRAGMA application_id={_APPLICATION_ID}")


def _read(db: Database) -> str:
    """Touch every table, so that damage is found now and not in mid-work."""
    for (name,) in db.rows("SELECT name FROM sqlite_master WHERE type='table'"):
        db.row(f"SELECT * FROM {name} LIMIT 1")  # noqa: S608
    row = db.row("SELECT value FROM meta WHERE key='agent_id'")
    if row is None:
        raise DamagedError(f"the agent's state {db.path} is damaged: it has no agent id")
    return str(row[0])


def _pragma(db: Database, name: str) -> int:
    row = db.row(f"PRAGMA {name}")
    return 0 if row is None else int(row[0])
