"""A thread that does one thing again and again, and never dies of an error."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import structlog

from agent.model.outcome import LaneSyncError

log = structlog.get_logger(__name__)

_PAUSE_MIN, _PAUSE_MAX = 0.5, 30.0


class Loop:
    """Calls `step()`, which returns the seconds until it should be called again unless it is woken before.

    `trouble(error)` hears of each error of the agent's kind, and `trouble(None)` of the first step that went
    well after one. Pauses after errors grow, with jitter, so that many agents do not come back at once.
    """

    def __init__(
        self, name: str, step: Callable[[], float], trouble: Callable[[LaneSyncError | None], None]
    ) -> None:
        self._step = step
        self._trouble = trouble
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"fts3 {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def join(self, timeout: float) -> None:
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause, failing = _PAUSE_MIN, False
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                wait = self._step()
                if failing:
                    failing = False
                    self._trouble(None)
                pause = _PAUSE_MIN
                self._wake.wait(wait)
            except LaneSyncError as error:
                if self._stopping.is_set():
                    return
                failing = True
                self._trouble(error)
                pause = self._rest(pause)
            except Exception:
                log.exception("fts3 worker failed; it goes on")
                pause = self._rest(pause)

    def _rest(self, pause: float) -> float:
        """After an error nobody's wish for haste counts, but the end does."""
        self._stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
        return min(pause * 2, _PAUSE_MAX)
