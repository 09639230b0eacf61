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
from types import TracebackType

from agent.model.outcome import PermanentError

LOCK_NAME = "agent.lock"
_POLL_SECONDS = 0.02


class StateLockedError(PermanentError):
    """Another process works on this state directory; `pid` is the one that took the lock (0 = unknown)."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class StateLock:
    """Takes the lock when made. `wait` seconds are granted to a predecessor's children to end.

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
            self._acquire(clock() + wait, clock, sleep)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise

    def _acquire(self, deadline: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise PermanentError(f"cannot lock {self.path}: {error.strerror}") from error
                if clock() >= deadline:
                    raise self._refusal() from error
                sleep(_POLL_SECONDS)
            else:
                return

    def _refusal(self) -> StateLockedError:
        pid = _parse_pid(os.pread(self._fd, 32, 0))
        if pid and not _alive(pid):
            what = f"children of process {pid}, which is gone, are still ending; try again in a moment"
        else:
            who = f"process {pid}" if pid else "another process"
            what = f"{who} is using it; stop it first, or name another directory with --state-dir"
        return StateLockedError(f"the state directory {os.path.dirname(self.path)} is locked: {what}", pid)

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
        return _parse_pid(os.pread(fd, 32, 0))
    else:
        return None
    finally:
        os.close(fd)


def _parse_pid(data: bytes) -> int:
    text = data.strip()
    return int(text) if text.isdigit() else 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
