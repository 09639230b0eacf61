"""Threads that never hold up the end of the agent, whatever they wait for."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

import structlog

from agent.model.outcome import LaneSyncError

log = structlog.get_logger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_PAUSE_MIN, _PAUSE_MAX = 0.5, 10.0


class Crew:
    """A few threads that do what comes. Unlike those of an executor they are daemons: a request that hangs
    must not keep the agent from ending."""

    def __init__(self, name: str, size: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._size = size
        for number in range(size):
            threading.Thread(target=self._run, name=f"fts3 {name} {number}", daemon=True).start()

    def do(self, work: Callable[[], R]) -> Future[R]:
        future: Future[R] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

        self._queue.put(run)
        return future

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """All results, in order. Raises the first error."""
        futures = [self.do(lambda item=item: work(item)) for item in items]  # type: ignore[misc]
        return [future.result() for future in futures]

    def close(self) -> None:
        """What has begun goes on, without anybody waiting for it."""
        for _ in range(self._size):
            self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


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
