"""Storage that is full is no failure of the file that finds it so: all that goes there waits for room. So it
does before the storage has less free than its reserve."""

from __future__ import annotations

import errno
import os
import threading
import time

from agent.jetstream import marks
from agent.server.data.wire import REPORTED, WireError
from agent.server.reserve import Reserve

AGAIN_SECONDS = 10.0  # quotas do not show: after so long it is tried again
_ENOUGH = 16 << 20  # bytes that are free again, or a hundredth of a small file system
_FULL = (errno.ENOSPC, errno.EDQUOT)
_IS_FULL = marks.NO_SPACE.removeprefix(REPORTED)
_WAITS = "; what is on its way waits, and goes on by itself when there is room: free some there"


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

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._lock = threading.Lock()
        self._found: dict[bytes, tuple[float, int, str]] = {}  # when, what is to be free again, what to tell

    def found(self, root: bytes) -> NoRoomError:
        """Note it; returns what to tell."""
        return self._note(root, _IS_FULL + _WAITS)

    def require(self, root: bytes, count: int) -> None:
        """NoRoomError when `count` bytes more would leave less than the reserve. Each stream asks for the
        frame it has at hand, so that together they may take that much from it."""
        free, size = _room(root)
        reserve = self._reserve.of(size)
        if size and free - count < reserve:
            raise self._note(root, f"{_IS_FULL}: {_shown(reserve)} have to stay free there{_WAITS}")

    def check(self, root: bytes) -> None:
        """NoRoomError while a root that was found full still is, as far as that can be told."""
        self.require(root, 0)
        with self._lock:
            if root not in self._found:
                return
            at, enough, told = self._found[root]
            if time.monotonic() - at < AGAIN_SECONDS and _room(root)[0] < enough:
                raise NoRoomError(told)
            del self._found[root]

    def _note(self, root: bytes, told: str) -> NoRoomError:
        free, size = _room(root)
        enough = max(free, self._reserve.of(size)) + min(_ENOUGH, size // 100)
        with self._lock:
            self._found[root] = time.monotonic(), enough, told
        return NoRoomError(told)


def _room(root: bytes) -> tuple[int, int]:
    """Bytes that are free, and all there are; 0 where nobody tells (some network file systems)."""
    try:
        found = os.statvfs(root)
    except OSError:
        return 0, 0
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _shown(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"
