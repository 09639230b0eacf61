"""A copy of a state directory, taken while an agent runs on it.

A database that is being written to cannot be copied as a file: its log belongs to it, and both change. So
databases are read through SQLite, each as of one moment, the agent's before those of its servers: what a
server knows beyond the agent's copy is found by its tag, or looked at again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from agent.model.outcome import PermanentError, RetryableError
from agent.state.db import DATABASE_NAME
from agent.state.lock import LOCK_NAME

RECEIVED = ("received", ".lanesync")
"""What was received is data, which a state directory may hold but its copy does not."""

_PASSING = (".db-wal", ".db-shm", ".db-journal", ".lock", ".log")


class Copied(NamedTuple):
    files: int
    bytes: int


def back_up(state_dir: str, target: str) -> Copied:
    """Copy to `target`, a directory that does not exist yet; it is there when the copy is whole.
    PermanentError: no state there, or `target` is in the way; RetryableError: no room, for example."""
    if not os.path.isfile(os.path.join(state_dir, DATABASE_NAME)):
        raise PermanentError(f"{state_dir} is not the state directory of an agent; name it with --state-dir")
    if os.path.lexists(target):
        raise PermanentError(f"{target} is there already; name a directory that is not there yet")
    unfinished = f"{target.rstrip('/')}.unfinished"
    try:
        os.mkdir(unfinished, mode=0o700)
        try:
            found = [_copy(state_dir, unfinished, name) for name in _names(state_dir)]
            os.rename(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except (OSError, sqlite3.OperationalError) as error:
        raise RetryableError(f"the backup was not made, and nothing is left of it: {error}") from error
    except sqlite3.DatabaseError as error:
        raise PermanentError(f"the state {state_dir} is damaged ({error}); keep an earlier backup") from error
    return Copied(len(found), sum(found))


def _names(state_dir: str) -> Iterator[str]:
    """Files, relative; the agent's database first."""
    yield DATABASE_NAME
    for folder, folders, files in os.walk(state_dir):
        folders[:] = sorted(name for name in folders if name not in RECEIVED and _is_state(folder, name))
        for name in sorted(files):
            path = os.path.relpath(os.path.join(folder, name), state_dir)
            passing = name == LOCK_NAME or name.endswith(_PASSING) or path == DATABASE_NAME
            if not passing and stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode):
                yield path


def _is_state(folder: str, name: str) -> bool:
    """A receive root of another name has a staging directory, whatever else is in it."""
    path = os.path.join(folder, name)
    return not os.path.islink(path) and not os.path.isdir(os.path.join(path, ".lanesync"))


def _copy(state_dir: str, target: str, name: str) -> int:
    """Returns the bytes of the copy, which is on storage."""
    source, copy = os.path.join(state_dir, name), os.path.join(target, name)
    os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if name.endswith(".db"):
        with closing(sqlite3.connect(source, timeout=30)) as theirs, closing(sqlite3.connect(copy)) as ours:
            theirs.backup(ours)
            if ours.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError(f"{source} is damaged")
    else:
        shutil.copyfile(source, copy)
    with open(copy, "rb") as file:
        os.fsync(file.fileno())
    return os.path.getsize(copy)
