"""One process owns a state directory: an advisory lock which its children inherit.

The lock belongs to the open file, not to the process: children that inherit the descriptor keep it,
so the directory is free only when the whole family is gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from agent.model.outcome import PermanentError

LOCK_NAME = "agent.lock"
_POLL_SECONDS = 0.02
RUNNING_SECONDS = 2.0
"""Granted to an owner that runs: it may be about to end, and most often it is not."""
_MAX_LINE = 80


class StateLockedError(PermanentError):
    """Another process works on this state directory; `pid` is the one that took the lock (0 = unknown)."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Owner:
    """Who took the lock, as the lock file tells. Only the lock itself tells whether it is still held."""

    pid: int = 0  # 0 = unknown
    since: float | None = None  # Unix seconds
    began: int | None = None  # of the process, see `_began`

    def line(self) -> bytes:
        return f"{self.pid} {self.since or 0.0:.0f} {self.began or 0}\n".encode()

    @classmethod
    def parse(cls, data: bytes) -> Owner:
        """Of any version's file: earlier ones hold the pid alone."""
        words = data.split()
        if not words or not all(word.isdigit() for word in words):
            return cls()
        pid, since, began = (*map(int, words[:3]), 0, 0)[:3]
        return cls(pid, float(since) or None, began or None)

    @property
    def alive(self) -> bool:
        """This very process; another one may have its pid by now."""
        return _exists(self.pid) and self.began in (None, _began(self.pid))

    def __str__(self) -> str:
        if not self.pid:
            return "another process"
        if self.since is None:
            return f"process {self.pid}"
        return f"process {self.pid}, since {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(self.since))},"


class StateLock:
    """Takes the lock when made. `wait` seconds are granted to a predecessor's children to end,
    RUNNING_SECONDS of them to a predecessor that runs.

    Raises StateLockedError when it is held, PermanentError when the directory cannot be used.
    """

    def __init__(
        self,
        state_dir: str,
        *,
        wait: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = os.path.join(state_dir, LOCK_NAME)
        try:
            os.makedirs(state_dir, mode=0o700, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise PermanentError(
                f"cannot use the state directory {state_dir}: {error.strerror}; "
                "make it writable for this user or name another with --state-dir"
            ) from error
        try:
            self._acquire(wait, clock, sleep)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, Owner(os.getpid(), time.time(), _began(os.getpid())).line(), 0)
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise

    def _acquire(self, wait: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        begun = clock()
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise PermanentError(f"cannot lock {self.path}: {error.strerror}") from error
                granted = min(wait, RUNNING_SECONDS) if self._owner().alive else wait
                if clock() - begun >= granted:
                    raise self._refusal() from error
                sleep(_POLL_SECONDS)
            else:
                return

    def _owner(self) -> Owner:
        return Owner.parse(os.pread(self._fd, _MAX_LINE, 0))

    def _refusal(self) -> StateLockedError:
        owner = self._owner()
        if owner.pid and not owner.alive:
            what = f"children of process {owner.pid}, which is gone, are still ending; try again in a moment"
        else:
            what = f"{owner} is using it; stop it first, or name another directory with --state-dir"
        return StateLockedError(
            f"the state directory {os.path.dirname(self.path)} is locked: {what}", owner.pid
        )

    def fileno(self) -> int:
        """The descriptor to hand to children (`pass_fds`), which then hold the lock too."""
        return self._fd

    def release(self) -> None:
        """Close our descriptor; children that inherited it still hold the lock. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(state_dir: str) -> int | None:
    """The pid that holds the lock now (0 = held, by whom is unknown); None when it is free."""
    try:
        fd = os.open(os.path.join(state_dir, LOCK_NAME), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return Owner.parse(os.pread(fd, _MAX_LINE, 0)).pid
    else:
        return None
    finally:
        os.close(fd)


def _began(pid: int) -> int | None:
    """When the process was started, in clock ticks since the machine was: with it a pid is of one process.
    None when there is no such process, or nobody tells."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read(4096).rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
