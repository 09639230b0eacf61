"""Waiting that a signal ends."""

from __future__ import annotations

import os
import select
import signal
from types import TracebackType
from typing import Self


class Wakeup:
    """A context of the main thread. A handler must not take a lock, because it may have interrupted who holds
    it; so the interpreter itself writes a byte for each signal that has one."""

    def __enter__(self) -> Self:
        self._reads, self._writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._reads)
        os.close(self._writes)

    def wait(self, seconds: float) -> None:
        """Return after so long, or at once when a signal came since the last wait."""
        if select.select([self._reads], [], [], max(0.0, seconds))[0]:
            os.read(self._reads, select.PIPE_BUF)
