"""Storage that is full is no failure of the file that finds it so: all that goes there waits for room."""

from __future__ import annotations

import errno
import os
import threading
import time

from agent.jetstream import marks
from agent.server.data.wire import REPORTED, WireError

AGAIN_SECONDS = 10.0  # quotas do not show: after so long it is tried again
_ENOUGH = 16 << 20  # bytes that are free again, or a hundredth of a small file system
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WAITS = marks.NO_SPACE.removeprefix(REPORTED) + (
    "; what is on its way waits, and goes on by itself when there is room: free some there"
)


class NoRoomError(WireError):
    """Ends the session. The sender keeps trying with a new one, and nothing that was stored is lost."""


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL


def pass_on(error: BaseException) -> None:
    """Raise an error again that no single file is to blame for."""
    if is_full(error):
        raise error


class Fullness:
    """Roots that were found full, by their paths. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[bytes, tuple[float, int]] = {}  # when, and how much is to be free again

    def found(self, root: bytes) -> NoRoomError:
        """Note it; returns what to tell."""
        free, size = _room(root)
        with self._lock:
            self._found[root] = time.monotonic(), free + min(_ENOUGH, size // 100)
        return NoRoomError(_WAITS)

    def check(self, root: bytes) -> None:
        """NoRoomError while a root that was found full still is, as far as that can be told."""
        with self._lock:
            found = self._found.get(root)
            if found is None:
                return
            at, enough = found
            if time.monotonic() - at < AGAIN_SECONDS and _room(root)[0] < enough:
                raise NoRoomError(_WAITS)
            del self._found[root]


def _room(root: bytes) -> tuple[int, int]:
    """Bytes that are free, and all there are; 0 where they cannot be told."""
    try:
        found = os.statvfs(root)
    except OSError:
        return 0, 0
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
