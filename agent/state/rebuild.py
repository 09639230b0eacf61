"""An agent's state that is damaged or gone: kept aside, and begun anew under the same name.

Nothing is deleted or overwritten. What the ledger knew is found again by looking at the destinations; what it
alone knew (that a file at a destination was ours although the source has it no more) is lost, so such files
stay. The agent's id lies beside the state, too, for by it the agent knows what is its own on servers.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass

from agent.model.outcome import PermanentError
from agent.model.spec import Key
from agent.state.connection import DamagedError
from agent.state.db import DATABASE_NAME, State, open_state

ID_NAME = "agent.id"
_SUFFIXES = ("", "-wal", "-shm")
_MAX_ID = 64


@dataclass(frozen=True, slots=True)
class _Saved:
    """What could be read of the damaged file."""

    agent_id: str = ""
    next_attempt: int = 0
    overrides: tuple[tuple[str, str, str, float, float | None], ...] = ()


def open_or_rebuild(state_dir: str, now: float) -> tuple[State, str]:
    """The state, and what was done about it, for people; empty when nothing was. PermanentError for what is
    foreign or newer: that is left as it is."""
    path = os.path.join(state_dir, DATABASE_NAME)
    known = _read_id(state_dir)
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        if not known:
            return _identified(open_state(state_dir), state_dir), ""
        _move_aside(path, now)
        state = _anew(state_dir, _Saved(known), now)
        return state, f"the agent's state {path} was gone; {_CONSEQUENCE}"
    try:
        return _identified(_checked(state_dir), state_dir), ""
    except DamagedError as error:
        saved = _save(path)
        aside = _move_aside(path, now)
        state = _anew(state_dir, _Saved(known or saved.agent_id, saved.next_attempt, saved.overrides), now)
        why = str(error.__cause__ or error)
        return state, f"the agent's state was damaged ({why}) and is kept as {aside}; {_CONSEQUENCE}"


_CONSEQUENCE = (
    "it was begun anew: what the destinations have already is taken over, nothing is deleted for it, and"
    " approvals, events and the history begin again"
)


def _checked(state_dir: str) -> State:
    state = open_state(state_dir)
    try:
        state.check()
    except BaseException:
        state.close()
        raise
    return state


def _anew(state_dir: str, saved: _Saved, now: float) -> State:
    """Attempts are numbered by the clock from here on: no number of the past may come again, for servers may
    still hold what carries it."""
    state = open_state(state_dir)
    state.continue_as(saved.agent_id or state.agent_id, max(saved.next_attempt, int(now)))
    for key, reason, author, at, until in saved.overrides:
        with contextlib.suppress(ValueError):
            state.overrides.set(Key.parse(key), reason, author, at, until)
    return _identified(state, state_dir)


def _save(path: str) -> _Saved:
    """As far as it can be read; the damaged file is not changed."""
    overrides: list[tuple[str, str, str, float, float | None]] = []
    meta: dict[str, str] = {}
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db,
    ):
        with contextlib.suppress(sqlite3.Error):
            meta = {str(key): str(value) for key, value in db.execute("SELECT key, value FROM meta")}
        with contextlib.suppress(sqlite3.Error):
            overrides = db.execute("SELECT key, reason, author, at, until FROM overrides").fetchall()
    number = meta.get("next_attempt", "")
    return _Saved(meta.get("agent_id", ""), int(number) if number.isdigit() else 0, tuple(overrides))


def _move_aside(path: str, now: float) -> str:
    """Under a name of its own, with what belongs to it."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    name, count = f"{path}.damaged-{stamp}", 1
    while any(os.path.lexists(name + suffix) for suffix in _SUFFIXES):
        name, count = f"{path}.damaged-{stamp}-{count}", count + 1
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, name + suffix)
    return name


def _read_id(state_dir: str) -> str:
    try:
        with open(os.path.join(state_dir, ID_NAME), encoding="ascii") as file:
            found = file.read(_MAX_ID).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return found if found.isalnum() else ""


def _identified(state: State, state_dir: str) -> State:
    """The id is kept beside the state."""
    if _read_id(state_dir) == state.agent_id:
        return state
    path = os.path.join(state_dir, ID_NAME)
    try:
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(state.agent_id + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)
    except OSError as error:
        state.close()
        raise PermanentError(f"cannot write {path}: {error.strerror}") from error
    return state
